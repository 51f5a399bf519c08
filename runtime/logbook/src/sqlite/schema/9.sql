-- What an entry of the audit log changed, if its subject does not say it. The subject may also be a tag.
ALTER TABLE audit ADD COLUMN detail TEXT;
