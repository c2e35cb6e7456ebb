//! The custom variant as the service keeps it: in the store, changed by the panel, in force from the next replacement
//! of engines on.

use acemux_fleet::custom::templates::TemplatesDocument;
use acemux_fleet::custom::{CustomVariant, Document};
use acemux_fleet::ident::{DockerName, InstanceId};
use acemux_fleet::profile::Platform;
use acemux_fleet::recipe::Recipe;
use acemux_store::{Store, StoreError};
use tokio::sync::{Mutex, MutexGuard};

use crate::claim::Claim;
use crate::config::Config;
use crate::{control, saved};

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
        let mut recipe = control::recipe(&self.config, self.instance.clone(), self.own_networks.as_deref());
        let is_chosen = control::is_custom(&self.config) || state.document.enabled;
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
        let document = saved::read(&store, DOCUMENT).await?;
        let document = document.unwrap_or_else(|| Document::default_for(Platform::here()));
        let templates = saved::read(&store, TEMPLATES).await?.unwrap_or_default();
        Ok(Self { store, state: Mutex::new(State { document, templates }) })
    }

    /// Both documents, for as long as the guard is held.
    pub async fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().await
    }

    /// Makes a changed document durable and only then the one in force.
    pub async fn keep_document(&self, state: &mut State, document: Document) -> Result<(), StoreError> {
        saved::write(&self.store, DOCUMENT, &document).await?;
        state.document = document;
        Ok(())
    }

    /// The same for the templates.
    pub async fn keep_templates(
        &self,
        state: &mut State,
        templates: TemplatesDocument,
    ) -> Result<(), StoreError> {
        saved::write(&self.store, TEMPLATES, &templates).await?;
        state.templates = templates;
        Ok(())
    }
}
