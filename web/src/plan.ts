// What the fleet would do next. It comes by no event.
import { signal } from '@preact/signals';
import { get, Refused } from './call';
import type { Plan } from './types';

const EVERY_MS = 5_000;

/** Null where engines are not created here; undefined while nobody has said. */
export const plan = signal<Plan | null | undefined>(undefined);

const ask = () =>
  void get<Plan>('plan').then(
    (seen) => (plan.value = seen),
    // Who does not answer has not said that there is none.
    (error: unknown) => error instanceof Refused && error.status === 404 && (plan.value = null),
  );

/** Keeps it fresh until the part of the page that shows it is gone. */
export function lookAtPlan() {
  ask();
  // Where there is none now there will be none before the page is opened anew.
  const timer = setInterval(() => plan.peek() !== null && document.visibilityState === 'visible' && ask(), EVERY_MS);
  return () => clearInterval(timer);
}
