//! The custom variant as the service keeps it: in the store, changed by the panel, in force from the next replacement
//! of engines on.

use acemux_fleet::custom::templates::TemplatesDocument;
use acemux_fleet::custom::{CustomVariant, Document};
use acemux_fleet::ident::{DockerName, InstanceId};
use acemux_fleet::profile::Platform;
use acemux_fleet::recipe::Recipe;
use acemux_store::{Store, StoreError};
use tokio::sync::{Mutex, MutexGuard};

use crate::config::Config;
use crate::planes::claim::Claim;
use crate::planes::setup;
use crate::record::saved;

/// Where the document stands in the store.
const DOCUMENT: &str = "custom_variant";
/// Where its templates stand.
const TEMPLATES: &str = "custom_templates";

/// Begins a token that is sealed; no token has a colon.
const SEALED: &str = "sealed:";
/// Ties a sealed token to what it is part of.
const CONTEXT: &str = "custom variant";

/// The custom variant and its templates.
pub struct Custom {
    store: Store,
    state: Mutex<State>,
}

/// Both documents. Who holds it changes them alone.
pub struct State {
    /// The variant.
    pub document: Document,
    /// The ten places.
    pub templates: TemplatesDocument,
}

/// Everything a recipe is made from that does not change while the service runs.
#[derive(Clone)]
pub struct Recipes {
    config: Config,
    instance: InstanceId,
    own_networks: Option<Vec<DockerName>>,
}

impl Recipes {
    /// With these settings, for engines of this instance.
    pub fn new(config: &Config, instance: InstanceId, own_networks: Option<Vec<DockerName>>) -> Self {
        Self { config: config.clone(), instance, own_networks }
    }

    /// What tells this service from others on this machine.
    pub(crate) fn claim(&self) -> Claim {
        Claim::new(&self.instance, self.config.fleet.docker_host.as_deref())
    }

    /// What engines are made from now: the custom variant where it is switched on, else what the settings say.
    pub fn current(&self, state: &State) -> Recipe {
        let mut recipe = setup::recipe(&self.config, self.instance.clone(), self.own_networks.as_deref());
        let is_chosen = setup::is_custom(&self.config) || state.document.enabled;
        let variant = Some(state.document.clone()).filter(|_| is_chosen);
        // What was saved was checked; a later version may know better, and then the settings count.
        if let Some(Ok(variant)) = variant.map(CustomVariant::try_from) {
            let name = state.templates.active().map(|template| template.name.to_owned());
            recipe.profile = variant.profile(name.as_deref());
            if let Some(memory) = variant.memory() {
                recipe.limits.memory = memory.bytes();
            }
        }
        recipe
    }
}

impl Custom {
    /// As it was saved; the defaults for this machine when nothing was, or when it cannot be read any more.
    pub async fn load(store: Store) -> Result<Self, StoreError> {
        let document: Option<Document> = saved::read(&store, DOCUMENT).await?;
        let document = document.unwrap_or_else(|| Document::default_for(Platform::here()));
        let templates: TemplatesDocument = saved::read(&store, TEMPLATES).await?.unwrap_or_default();
        let open = |kept: &str| opened(&store, kept);
        let (document, templates) = (document.with_tokens(&open), templates.with_tokens(&open));
        Ok(Self { store, state: Mutex::new(State { document, templates }) })
    }

    /// Both documents, for as long as the guard is held.
    pub async fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().await
    }

    /// Makes a changed document durable and only then the one in force.
    pub async fn keep_document(&self, state: &mut State, document: Document) -> Result<(), StoreError> {
        let kept = document.clone().with_tokens(&|token| sealed(&self.store, token));
        saved::write(&self.store, DOCUMENT, &kept).await?;
        state.document = document;
        Ok(())
    }

    /// The same for the templates.
    pub async fn keep_templates(
        &self,
        state: &mut State,
        templates: TemplatesDocument,
    ) -> Result<(), StoreError> {
        let kept = templates.clone().with_tokens(&|token| sealed(&self.store, token));
        saved::write(&self.store, TEMPLATES, &kept).await?;
        state.templates = templates;
        Ok(())
    }
}

/// A token as it is kept. One that cannot be sealed is not kept.
fn sealed(store: &Store, token: &str) -> String {
    store.seal(token, CONTEXT).map(|sealed| format!("{SEALED}{sealed}")).unwrap_or_default()
}

/// A token as engines get it. Earlier versions kept it as it is. One that cannot be read any more has to be entered again.
fn opened(store: &Store, kept: &str) -> String {
    let Some(sealed) = kept.strip_prefix(SEALED) else { return kept.to_owned() };
    store.unseal(sealed, CONTEXT).unwrap_or_else(|| {
        tracing::warn!("an access token of the custom variant was sealed with another key: enter it again");
        String::new()
    })
}

#[cfg(test)]
mod tests {
    use acemux_fleet::custom::{Parameter, Value};

    use super::*;

    const TOKEN: &str = "hush-hush-hush";

    /// A document with tokens.
    fn document() -> Document {
        let mut document = Document::default_for(Platform::Amd64);
        let with_token = |one: Parameter| match one.name.as_str() {
            "--access-token" | "--service-access-token" => {
                Parameter { value: Value::Text(TOKEN.into()), enabled: true, ..one }
            }
            _ => one,
        };
        document.parameters = document.parameters.into_iter().map(with_token).collect();
        document
    }

    #[tokio::test]
    async fn access_tokens_are_kept_sealed_and_given_to_engines_after_a_restart() {
        let store = Store::in_memory();
        let custom = Custom::load(store.clone()).await.unwrap();
        let variant = CustomVariant::try_from(document()).unwrap();
        let mut state = custom.state().await;
        custom.keep_document(&mut state, document()).await.unwrap();
        let mut templates = state.templates.clone();
        templates.save("1".parse().unwrap(), "evening", variant.clone()).unwrap();
        custom.keep_templates(&mut state, templates).await.unwrap();

        let kept = serde_json::to_string(&store.settings().await.unwrap()).unwrap();
        assert!(kept.contains(SEALED) && !kept.contains(TOKEN), "{kept}");
        let again = Custom::load(store).await.unwrap();
        let state = again.state().await;
        assert_eq!(
            (&state.document, state.templates.get("1".parse().unwrap()).unwrap().config),
            (&document(), &document())
        );
        assert!(variant.arguments().iter().any(|word| word == TOKEN));
    }

    #[tokio::test]
    async fn a_token_that_was_kept_as_it_is_still_counts_and_one_of_another_key_is_none() {
        let store = Store::in_memory();
        saved::write(&store, DOCUMENT, &document()).await.unwrap();
        assert_eq!(Custom::load(store.clone()).await.unwrap().state().await.document, document());
        let foreign = document().with_tokens(&|token| sealed(&Store::in_memory(), token));
        saved::write(&store, DOCUMENT, &foreign).await.unwrap();
        let lost = Custom::load(store).await.unwrap();
        assert_eq!(lost.state().await.document, document().with_tokens(&|_| String::new()));
    }
}
