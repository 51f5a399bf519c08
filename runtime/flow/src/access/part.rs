//! How much of what a flow asks for is granted, part by part.

use super::{Access, DirectoryUse, Grant, GrantedDirectory, HttpPattern, SettingKind, SocketPattern};
use crate::{DirectoryName, SettingName};

/// How much of what a flow asks for is granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrantedPart {
    /// All of it.
    All,
    /// Some of it: a grant allows only some of the requests of a pattern.
    Some,
    /// Nothing of it.
    None,
}

/// What a task asks for, and the rules for its calls. It copies neither: rules may be large, and a question may be about many tasks.
pub(super) struct Parts<'a> {
    pub(super) asked: &'a Access,
    pub(super) grants: Vec<&'a Grant>,
}

impl Parts<'_> {
    /// How much of each part is granted, in the order of [`Access::parts`].
    pub(super) fn granted(&self) -> Vec<GrantedPart> {
        let Access {
            http,
            secrets,
            config,
            variables,
            directories,
            sockets,
            arguments: _,
            clock,
            random,
            record: _,
            memo: _,
        } = self.asked;
        let part = |is_granted| if is_granted { GrantedPart::All } else { GrantedPart::None };
        let any = |is_granted: &dyn Fn(&Grant) -> bool| part(self.grants.iter().any(|grant| is_granted(grant)));
        let setting = |kind, name: &SettingName| any(&|grant| grant.settings(kind).contains_key(name));
        let http = http.iter().map(|asked| self.http(asked));
        let sockets = sockets.iter().map(|asked| self.socket(asked));
        let secrets = secrets.iter().map(|name| any(&|grant| grant.access.secrets.contains(name)));
        let config = config.iter().map(|name| setting(SettingKind::Config, name));
        let variables = variables.iter().map(|name| setting(SettingKind::Variable, name));
        let directories = directories.iter().map(|(name, directory_use)| self.directory(name, *directory_use));
        let clock = clock.then(|| any(&|grant| grant.access.clock));
        let random = random.then(|| any(&|grant| grant.access.random));
        let outside = http.chain(sockets).chain(secrets).chain(config).chain(variables);
        outside.chain(directories).chain(clock).chain(random).collect()
    }

    fn http(&self, asked: &HttpPattern) -> GrantedPart {
        let patterns = || self.grants.iter().flat_map(|grant| &grant.access.http);
        let is_reached = |address| self.grants.iter().any(|grant| grant.reaches(asked, address));
        if asked.address().is_some_and(|address| !is_reached(address)) {
            GrantedPart::None
        } else if patterns().any(|pattern| pattern.covers(asked)) {
            GrantedPart::All
        } else if patterns().any(|pattern| pattern.may_overlap(asked)) {
            GrantedPart::Some
        } else {
            GrantedPart::None
        }
    }

    fn socket(&self, asked: &SocketPattern) -> GrantedPart {
        let patterns = || self.grants.iter().flat_map(|grant| &grant.access.sockets);
        let is_reached = |address| self.grants.iter().any(|grant| grant.reaches_socket(asked, address));
        if asked.host.address().is_some_and(|address| !is_reached(address)) {
            GrantedPart::None
        } else if patterns().any(|pattern| pattern.covers(asked)) {
            GrantedPart::All
        } else if patterns().any(|pattern| asked.covers(pattern)) {
            GrantedPart::Some
        } else {
            GrantedPart::None
        }
    }

    fn directory(&self, name: &DirectoryName, asked: DirectoryUse) -> GrantedPart {
        match (asked, self.grants.iter().find_map(|grant| grant.directories.get(name))) {
            (_, None) => GrantedPart::None,
            (DirectoryUse::Write, Some(GrantedDirectory { max_bytes: None, .. })) => GrantedPart::Some,
            (DirectoryUse::Read | DirectoryUse::Write, Some(_)) => GrantedPart::All,
        }
    }
}

impl Access {
    /// Each thing in it that an operator has to grant, in the words of a flow file, in the order of [`Access::parts`].
    #[must_use]
    pub fn descriptions(&self) -> Vec<String> {
        let Self {
            http,
            secrets,
            config,
            variables,
            directories,
            sockets,
            arguments: _,
            clock,
            random,
            record: _,
            memo: _,
        } = self;
        let http = http.iter().map(|pattern| format!("http {pattern}"));
        let sockets = sockets.iter().map(|pattern| format!("socket {pattern}"));
        let secrets = secrets.iter().map(|name| format!("secret {name}"));
        let config = config.iter().map(|name| format!("config {name}"));
        let variables = variables.iter().map(|name| format!("env {name}"));
        let directories = directories.iter().map(|(name, directory_use)| format!("dir {name} {directory_use}"));
        let clock = clock.then(|| "clock".to_owned());
        let random = random.then(|| "random".to_owned());
        let outside = http.chain(sockets).chain(secrets).chain(config).chain(variables);
        outside.chain(directories).chain(clock).chain(random).collect()
    }

    /// The number of its [`parts`](Self::parts).
    #[must_use]
    pub fn count_parts(&self) -> usize {
        self.parts().count()
    }
}
