//! What an operator grants to which calls, and what a call may do by both the flow and the operator.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
};

use super::{
    Access, DirectoryUse, GrantedDirectory, GrantedPart, HttpPattern, HttpTarget, Network, Setting, SettingKind,
    is_public, part::Parts,
};
use crate::{Digest, DirectoryName, FlowName, Namespace, NodeName, SecretName, SettingName};

/// A rule of an operator: which calls it is for, and what it grants to them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grant {
    /// The namespace of the flows; `None` means each, and flows without one.
    pub namespace: Option<Namespace>,
    /// The flow, with its namespace; `None` means each.
    pub flow: Option<FlowName>,
    /// The task; `None` means each. The calls of a `for_each` task count as the task.
    pub task: Option<NodeName>,
    /// The module; `None` means each.
    pub module: Option<Digest>,
    /// Who has signed the module; `None` means that nobody needs to have. [`Grants::with_signers`] decides it.
    pub signer: Option<SignerKey>,
    /// What it grants. The names of the settings below are not repeated here.
    pub access: Access,
    /// The configuration values that it grants.
    pub config: BTreeMap<SettingName, String>,
    /// The environment variables that it grants.
    pub variables: BTreeMap<SettingName, String>,
    /// The directories that it grants.
    pub directories: BTreeMap<DirectoryName, GrantedDirectory>,
    /// The networks that the granted requests may reach although they are not public. An address that a pattern names may be
    /// reached in any case.
    pub networks: Vec<Network>,
}

/// The public key of a signer, as the crate that checks signatures writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignerKey(pub String);

/// The rules of an operator. Without rules, nothing is granted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grants(pub Vec<Grant>);

/// What one call may do: what its flow asks for, as far as an operator grants it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CallAccess {
    asked: Access,
    grants: Vec<Grant>,
}

/// The addresses that a request may reach: the public ones, and those of some networks.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Reach(BTreeSet<Network>);

impl Reach {
    /// The public addresses, and those of these networks.
    #[must_use]
    pub fn of(networks: impl Iterator<Item = Network>) -> Self {
        Self(networks.collect())
    }

    /// All addresses: for requests that an operator sends, and no guest.
    #[must_use]
    pub fn everywhere() -> Self {
        Self(Network::all().into_iter().collect())
    }

    /// Whether it contains an address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        is_public(address) || self.0.iter().any(|network| network.contains(address))
    }
}

/// Why a call may not do something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessDenial {
    /// The flow does not ask for it.
    NotAsked {
        /// What the call tried.
        tried: String,
        /// What the flow file would have to say.
        ask: String,
    },
    /// The flow asks for it, and no rule of the operator grants it.
    NotGranted {
        /// What the call tried.
        tried: String,
    },
    /// The operator does not let the secret into this place.
    SecretPlace {
        /// The secret.
        name: SecretName,
        /// The place: a header, a parameter of the query, or the body of a request.
        place: String,
    },
    /// The host has an address that is not public, and no rule names its network.
    PrivateAddress {
        /// What the call tried.
        tried: String,
        /// The address.
        address: IpAddr,
    },
}

impl Grants {
    /// Whether some rules are for modules that somebody has signed.
    #[must_use]
    pub fn name_signers(&self) -> bool {
        self.0.iter().any(|grant| grant.signer.is_some())
    }

    /// The rules for a module: those without a signer, and those whose signer has signed it.
    #[must_use]
    pub fn with_signers(&self, has_signed: impl Fn(&SignerKey) -> bool) -> Self {
        let grants = self.0.iter().filter(|grant| grant.signer.as_ref().is_none_or(&has_signed));
        Self(grants.map(|grant| Grant { signer: None, ..grant.clone() }).collect())
    }

    /// What a call may do that asks for this.
    #[must_use]
    pub fn of_call(&self, asked: &Access, flow: &FlowName, task: &NodeName, module: &Digest) -> CallAccess {
        if asked.is_empty() {
            return CallAccess::default();
        }
        let grants = self.0.iter().filter(|grant| grant.is_for(flow, task, module)).cloned().collect();
        CallAccess { asked: asked.clone(), grants }
    }

    /// How much of each thing that a task asks for is granted, in the order of [`Access::parts`], when those signers have signed its
    /// module. It copies no rule.
    #[must_use]
    pub fn granted_parts(
        &self,
        asked: &Access,
        flow: &FlowName,
        (task, module): (&NodeName, &Digest),
        has_signed: impl Fn(&SignerKey) -> bool,
    ) -> Vec<GrantedPart> {
        let is_for =
            |grant: &&Grant| grant.signer.as_ref().is_none_or(&has_signed) && grant.is_for_signed(flow, task, module);
        let grants = self.0.iter().filter(is_for).collect();
        Parts { asked, grants }.granted()
    }
}

impl Grant {
    /// Whether it is for the calls of a task, whoever has signed the module.
    #[must_use]
    pub fn is_for(&self, flow: &FlowName, task: &NodeName, module: &Digest) -> bool {
        // Whether the signer has signed the module is not known here.
        self.signer.is_none() && self.is_for_signed(flow, task, module)
    }

    /// Whether it is for the calls of a task, if its signer has signed the module.
    fn is_for_signed(&self, flow: &FlowName, task: &NodeName, module: &Digest) -> bool {
        let Self {
            namespace,
            flow: own_flow,
            task: own_task,
            module: own_module,
            signer: _,
            access: _,
            config: _,
            variables: _,
            directories: _,
            networks: _,
        } = self;
        let is_task = |own: &NodeName| own == task || task.as_element().is_some_and(|(of, _)| of == *own);
        namespace.as_ref().is_none_or(|own| flow.namespace().as_ref() == Some(own))
            && own_flow.as_ref().is_none_or(|own| own == flow)
            && own_task.as_ref().is_none_or(is_task)
            && own_module.as_ref().is_none_or(|own| own == module)
    }

    /// Whether it grants nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.granted().is_empty()
    }

    /// All that it grants, by name.
    fn granted(&self) -> Access {
        let mut granted = self.access.clone();
        granted.config.extend(self.config.keys().cloned());
        granted.variables.extend(self.variables.keys().cloned());
        granted.directories.extend(self.directories.iter().map(|(name, directory)| {
            let directory_use = directory.max_bytes.map_or(DirectoryUse::Read, |_| DirectoryUse::Write);
            (name.clone(), directory_use)
        }));
        granted
    }

    /// The settings of a kind.
    pub(super) fn settings(&self, kind: SettingKind) -> &BTreeMap<SettingName, String> {
        match kind {
            SettingKind::Config => &self.config,
            SettingKind::Variable => &self.variables,
        }
    }

    /// Whether requests of a pattern may reach the address that it names.
    pub(super) fn reaches(&self, asked: &HttpPattern, address: IpAddr) -> bool {
        let mut covering = self.access.http.iter().filter(|pattern| pattern.covers(asked)).peekable();
        let is_named = |pattern: &HttpPattern| {
            pattern.named_network().into_iter().flatten().any(|network| network.contains(address))
        };
        covering.peek().is_some()
            && (is_public(address)
                || self.networks.iter().any(|network| network.contains(address))
                || covering.any(is_named))
    }

    /// The networks that a granted request may reach although they are not public.
    fn networks_of(&self, target: &HttpTarget) -> impl Iterator<Item = Network> {
        let named =
            self.access.http.iter().filter(|pattern| pattern.matches(target)).filter_map(|own| own.named_network());
        self.networks.iter().copied().chain(named.flatten())
    }
}

impl CallAccess {
    /// Whether the call may do nothing outside its sandbox.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.granted().is_empty()
    }

    pub(super) fn asked(&self) -> &Access {
        &self.asked
    }

    pub(super) fn grants(&self) -> &[Grant] {
        &self.grants
    }

    /// The arguments of the program.
    #[must_use]
    pub fn arguments(&self) -> &[String] {
        &self.asked.arguments
    }

    /// All that rules grant to the call, asked for or not.
    #[must_use]
    pub fn granted(&self) -> Access {
        let mut granted = Access::default();
        self.grants.iter().for_each(|grant| granted.extend(&grant.granted()));
        granted
    }

    /// Each thing that the flow asks for, in the words of a flow file, and how much of it is granted.
    #[must_use]
    pub fn granted_parts(&self) -> Vec<(String, GrantedPart)> {
        let parts = Parts { asked: &self.asked, grants: self.grants.iter().collect() };
        self.asked.descriptions().into_iter().zip(parts.granted()).collect()
    }

    /// Whether the call may send some requests.
    #[must_use]
    pub fn has_http(&self) -> bool {
        !self.asked.http.is_empty() && self.grants.iter().any(|grant| !grant.access.http.is_empty())
    }

    /// Whether the call has the clocks of the worker.
    #[must_use]
    pub fn has_clock(&self) -> bool {
        self.asked.clock && self.grants.iter().any(|grant| grant.access.clock)
    }

    /// Whether the call has randomness that nobody can predict.
    #[must_use]
    pub fn has_random(&self) -> bool {
        self.asked.random && self.grants.iter().any(|grant| grant.access.random)
    }

    /// Checks a request before its host is looked up.
    ///
    /// # Errors
    /// [`AccessDenial`] when the flow or the operator does not allow it.
    pub fn check_request(&self, target: &HttpTarget) -> Result<(), AccessDenial> {
        let tried = || format!("the HTTP request {target}");
        if !self.asked.http.iter().any(|pattern| pattern.matches(target)) {
            return Err(AccessDenial::NotAsked {
                tried: tried(),
                ask: format!("allow = {{ http = [{:?}] }}", target.to_string()),
            });
        }
        match self.grants_of(target).next() {
            Some(_) => match target.address().filter(|address| !self.reach(target).contains(*address)) {
                Some(address) => Err(AccessDenial::PrivateAddress { tried: tried(), address }),
                None => Ok(()),
            },
            None => Err(AccessDenial::NotGranted { tried: tried() }),
        }
    }

    /// Checks that the requests of the call may contain a secret.
    ///
    /// # Errors
    /// [`AccessDenial`] when the flow or the operator does not allow it.
    pub fn check_secret(&self, name: &SecretName) -> Result<(), AccessDenial> {
        let tried = || format!("the secret {name}");
        if !self.asked.secrets.contains(name) {
            return Err(AccessDenial::NotAsked {
                tried: tried(),
                ask: format!("allow = {{ secrets = [\"{name}\"] }}"),
            });
        }
        match self.grants.iter().any(|grant| grant.access.secrets.contains(name)) {
            true => Ok(()),
            false => Err(AccessDenial::NotGranted { tried: tried() }),
        }
    }

    /// The settings that the flow asks for. If several rules have a value, the first one counts.
    #[must_use]
    pub fn settings(&self, kind: SettingKind) -> BTreeMap<SettingName, Setting> {
        let asked = match kind {
            SettingKind::Config => &self.asked.config,
            SettingKind::Variable => &self.asked.variables,
        };
        let setting = |name: &SettingName| {
            let value = self.grants.iter().find_map(|grant| grant.settings(kind).get(name).cloned());
            let setting = value.ok_or_else(|| AccessDenial::NotGranted { tried: kind.describe(name.as_str()) });
            (name.clone(), setting)
        };
        asked.iter().map(setting).collect()
    }

    /// The addresses that a request may reach. Each address of its host is checked before a connection to it.
    #[must_use]
    pub fn reach(&self, target: &HttpTarget) -> Reach {
        Reach(self.grants_of(target).flat_map(|grant| grant.networks_of(target)).collect())
    }

    fn grants_of(&self, target: &HttpTarget) -> impl Iterator<Item = &Grant> {
        self.grants.iter().filter(|grant| grant.access.http.iter().any(|pattern| pattern.matches(target)))
    }
}

/// A sentence that says who would have to allow it, and how.
impl fmt::Display for AccessDenial {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAsked { tried, ask } => {
                write!(out, "{tried} is denied: the flow does not ask for it; let the task say {ask}")
            }
            Self::NotGranted { tried } => write!(
                out,
                "{tried} is denied: the flow asks for it, and no [[grant]] in the settings of the worker allows it"
            ),
            Self::SecretPlace { name, place } => write!(
                out,
                "the secret {name} is denied {place}: an operator allows it with `headers`, `query`, `body` and \
                 `http` in [secret.{name}]"
            ),
            Self::PrivateAddress { tried, address } => write!(
                out,
                "{tried} is denied: the host has the address {address}, which is not public; an operator allows it with \
                 networks = [\"{address}\"] in the [[grant]]"
            ),
        }
    }
}

impl std::error::Error for AccessDenial {}
