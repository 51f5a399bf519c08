//! Builds edits of a run's flow in one chain: the server makes all of them in one step, or none.

use flow::{
    Draft,
    builder::LinkBuilder,
    draft::DraftLink,
    file::{WriteError, write_addition},
};

use crate::{Edit, Edits, submit::raw};

impl Edits {
    /// The edits of the text of a file of edits (TOML), which `waft edit apply` takes. `add_text` in it adds a text: a server reads no
    /// files.
    #[must_use]
    pub fn of_text(text: impl Into<String>) -> Self {
        Self { text: Some(text.into()), ..Self::default() }
    }

    /// Adds tasks, nested flows and links from an addition, which starts with [`Draft::addition`]. It need not declare
    /// modules that the flow has.
    ///
    /// # Errors
    /// [`WriteError`] when the addition has errors.
    #[expect(clippy::should_implement_trait, reason = "it is the word of `waft edit`, and may fail")]
    pub fn add(self, addition: &Draft) -> Result<Self, WriteError> {
        let text = write_addition(addition)?;
        Ok(self.with(Edit::Add { text, modules: [].into() }))
    }

    /// Removes a task and its links.
    #[must_use]
    pub fn remove(self, task: impl Into<String>) -> Self {
        self.with(Edit::Remove { task: task.into() })
    }

    /// Links two nodes; replaces an existing link between them.
    #[must_use]
    pub fn link(self, from: impl Into<String>, to: impl Into<String>) -> Self {
        let (from, to) = (from.into(), to.into());
        self.with(Edit::Link { from, to, on: None, when: None, reach: None, join: None })
    }

    /// Links two nodes with a detailed link: the outcome of `from` that it waits for, or a condition.
    ///
    /// # Errors
    /// [`WriteError`] when the link has errors.
    pub fn link_with(
        self,
        from: impl AsRef<str>,
        to: impl AsRef<str>,
        build: impl FnOnce(LinkBuilder) -> LinkBuilder,
    ) -> Result<Self, WriteError> {
        let Draft { body, diagnostics, .. } = Draft::addition().link_with(from, to, build).build();
        let Some(DraftLink { from, to, on, when, reach, join, spans: _ }) =
            body.links.into_iter().next().filter(|_| diagnostics.is_empty())
        else {
            return Err(WriteError { diagnostics });
        };
        Ok(self.with(Edit::Link {
            from: from.to_string(),
            to: to.to_string(),
            on: Some(on.into()),
            when: when.map(|when| when.as_str().into()),
            reach: reach.map(Into::into),
            join: Some(join.into()),
        }))
    }

    /// Removes the links between two nodes.
    #[must_use]
    pub fn unlink(self, from: impl Into<String>, to: impl Into<String>) -> Self {
        self.with(Edit::Unlink { from: from.into(), to: to.into() })
    }

    /// Makes a task that has not run call something else: `module#task` or `module`, where the module is an alias of the
    /// flow, a tag or a digest.
    #[must_use]
    pub fn uses(self, task: impl Into<String>, uses: impl Into<String>) -> Self {
        self.with(Edit::Use { task: task.into(), uses: uses.into() })
    }

    /// Sets a constant of a task.
    #[must_use]
    pub fn set(
        self,
        task: impl Into<String>,
        parameter: impl Into<String>,
        value: impl Into<serde_json::Value>,
    ) -> Self {
        self.with(Edit::Set { task: task.into(), parameter: parameter.into(), value: raw(value) })
    }

    /// Makes a parameter of a task take a named value of the flow.
    #[must_use]
    pub fn require(self, task: impl Into<String>, parameter: impl Into<String>, value: impl Into<String>) -> Self {
        self.with(Edit::Require { task: task.into(), parameter: parameter.into(), value: value.into() })
    }

    /// Requires that the flow is at this revision: a concurrent edit makes the request fail.
    #[must_use]
    pub fn if_revision(self, revision: u64) -> Self {
        Self { if_revision: Some(revision), ..self }
    }

    /// Only checks whether the edits can be made.
    #[must_use]
    pub fn dry_run(self) -> Self {
        Self { dry_run: true, ..self }
    }

    /// Only checks whether the edits can be made, and asks for the changed flow.
    #[must_use]
    pub fn preview(self) -> Self {
        Self { dry_run: true, preview: true, ..self }
    }

    fn with(mut self, edit: Edit) -> Self {
        self.edits.push(edit);
        self
    }
}

#[cfg(test)]
mod tests {
    use flow::SourceOutcome;

    use super::*;

    #[test]
    fn edits_keep_their_order() {
        let addition = Draft::addition().task("more", "m#more", |task| task).build();
        let edits = Edits::default()
            .add(&addition)
            .unwrap()
            .link("pan", "more")
            .link_with("pan", "tell", |link| link.on(SourceOutcome::Failure).when("failure.kind == 'timeout'"))
            .unwrap()
            .set("more", "celsius", 180)
            .require("more", "pan", "first_pan")
            .uses("more", "m#other")
            .unlink("a", "b")
            .remove("b")
            .if_revision(3)
            .dry_run();
        let expected = r##"{"edits":[
            {"do":"add","text":"[[task]]\nname = \"more\"\nuse = \"m#more\"\n"},
            {"do":"link","from":"pan","to":"more"},
            {"do":"link","from":"pan","to":"tell","on":"failure","when":"failure.kind == 'timeout'","join":"all"},
            {"do":"set","task":"more","parameter":"celsius","value":180},
            {"do":"require","task":"more","parameter":"pan","value":"first_pan"},
            {"do":"use","task":"more","uses":"m#other"},
            {"do":"unlink","from":"a","to":"b"},
            {"do":"remove","task":"b"}],"if_revision":3,"dry_run":true}"##;
        assert_eq!(serde_json::to_string(&edits).unwrap(), expected.replace("\n            ", ""));
    }

    #[test]
    fn an_invalid_addition_is_not_sent() {
        let refused = Edits::default().link_with("a", "b", |link| link.when("1 +")).unwrap_err();
        assert!(refused.diagnostics[0].message.starts_with("the condition of a link: it is not CEL"), "{refused}");
        let refused = Edits::default().add(&Draft::addition().persistent().build()).unwrap_err();
        assert!(refused.to_string().contains("must not set keys of the whole flow"), "{refused}");
    }
}
