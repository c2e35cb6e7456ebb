// The focus is never lost by an update: when what has it is taken away, what it was in gets it.

const PLACES = 'li, section, dialog, aside, nav, header, main';

export function keepFocus(root: HTMLElement) {
  let trail: HTMLElement[] = [];
  root.addEventListener('focusin', ({ target }) => {
    trail = [];
    for (let at = target instanceof HTMLElement ? target : null; at && at !== root; at = at.parentElement) trail.push(at);
  });
  root.addEventListener('focusout', ({ target }) => {
    // Somebody has left it by himself: it is still there.
    setTimeout(() => {
      if (target instanceof HTMLElement && target.isConnected && document.activeElement === document.body) trail = [];
    });
  });
  new MutationObserver(() => {
    if (trail[0] === undefined || trail[0].isConnected || document.activeElement !== document.body) return;
    const place = trail.find((one) => one.isConnected && one.matches(PLACES)) ?? document.getElementById('main');
    if (!place) return;
    if (!place.hasAttribute('tabindex')) place.tabIndex = -1;
    place.focus({ preventScroll: true });
  }).observe(root, { childList: true, subtree: true });
}
