-- One schema for SQLite and PostgreSQL. Ids are UUIDv7 made by us, times are milliseconds since 1970 (UTC),
-- truth values are 0 and 1. BYTEA columns named sealed_*, wrapped or *_mac are described in docs/format.md.

CREATE TABLE meta (
  name  TEXT PRIMARY KEY,
  value TEXT NOT NULL
);

CREATE TABLE workspaces (
  id               UUID PRIMARY KEY,
  slug             TEXT NOT NULL UNIQUE,
  name             TEXT NOT NULL,
  external_keys    BIGINT NOT NULL,
  require_code     BIGINT NOT NULL,
  default_vault_id UUID,
  created_at       BIGINT NOT NULL,
  revision         BIGINT NOT NULL
);

CREATE TABLE members (
  id                UUID PRIMARY KEY,
  workspace_id      UUID NOT NULL REFERENCES workspaces (id),
  email             TEXT NOT NULL,
  name              TEXT NOT NULL,
  role              TEXT NOT NULL,
  password_hash     TEXT,
  sealed_totp       BYTEA,
  totp_confirmed    BIGINT NOT NULL,
  totp_last_step    BIGINT NOT NULL,
  created_at        BIGINT NOT NULL,
  last_sign_in_at   BIGINT,
  removed_at        BIGINT,
  revision          BIGINT NOT NULL
);
-- Sign-in names no workspace, so an e-mail address belongs to one living member of the instance.
CREATE UNIQUE INDEX members_email ON members (email) WHERE removed_at IS NULL;
CREATE INDEX members_workspace ON members (workspace_id);
-- Exactly one Owner.
CREATE UNIQUE INDEX members_owner ON members (workspace_id) WHERE role = 'owner' AND removed_at IS NULL;

CREATE TABLE recovery_codes (
  member_id UUID NOT NULL REFERENCES members (id),
  code_mac  BYTEA NOT NULL,
  used_at   BIGINT,
  PRIMARY KEY (member_id, code_mac)
);

CREATE TABLE sessions (
  id            UUID PRIMARY KEY,
  token_mac     BYTEA NOT NULL UNIQUE,
  member_id     UUID NOT NULL REFERENCES members (id),
  created_at    BIGINT NOT NULL,
  signed_in_at  BIGINT NOT NULL,
  last_seen_at  BIGINT NOT NULL,
  expires_at    BIGINT NOT NULL,
  revoked_at    BIGINT,
  address       TEXT NOT NULL,
  agent         TEXT NOT NULL
);
CREATE INDEX sessions_member ON sessions (member_id);

CREATE TABLE api_tokens (
  id           UUID PRIMARY KEY,
  token_mac    BYTEA NOT NULL UNIQUE,
  member_id    UUID NOT NULL REFERENCES members (id),
  name         TEXT NOT NULL,
  created_at   BIGINT NOT NULL,
  signed_in_at BIGINT NOT NULL,
  last_used_at BIGINT,
  expires_at   BIGINT NOT NULL,
  revoked_at   BIGINT
);
CREATE INDEX api_tokens_member ON api_tokens (member_id);

-- One-time secrets: links for making the first workspace, joining one and setting a new password; and the tickets
-- of those whose password was right and whose code is awaited.
CREATE TABLE links (
  id         UUID PRIMARY KEY,
  token_mac  BYTEA NOT NULL UNIQUE,
  purpose    TEXT NOT NULL,
  member_id  UUID REFERENCES members (id),
  created_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  used_at    BIGINT
);

CREATE TABLE vaults (
  id            UUID PRIMARY KEY,
  workspace_id  UUID NOT NULL REFERENCES workspaces (id),
  name          TEXT NOT NULL,
  name_key      TEXT NOT NULL,
  strategy      TEXT NOT NULL,
  state         TEXT NOT NULL,
  lease_seconds BIGINT NOT NULL,
  generation    BIGINT NOT NULL,
  -- Where new wraps go; each wrap names its own.
  provider_id   UUID NOT NULL,
  -- Whether items may move to a vault that promises less.
  may_leave     BIGINT NOT NULL,
  created_by    UUID,
  created_at    BIGINT NOT NULL,
  revision      BIGINT NOT NULL,
  policy_mac    BYTEA NOT NULL,
  UNIQUE (workspace_id, name_key)
);

-- How a vault's key is reached. A Cloud vault seals its KEK here, an Azure vault its client secret. A vault has a second
-- one while its key moves to another Key Vault. The previous credential is held until the new one has worked.
CREATE TABLE providers (
  id                    UUID PRIMARY KEY,
  vault_id              UUID NOT NULL REFERENCES vaults (id),
  kind                  TEXT NOT NULL,
  tenant_id             TEXT NOT NULL,
  vault_url             TEXT NOT NULL,
  key_name              TEXT NOT NULL,
  credential_id         UUID NOT NULL,
  client_id             TEXT NOT NULL,
  -- secret, certificate or workload_identity; NULL for a Cloud vault.
  credential_kind       TEXT,
  -- Unix milliseconds, where somebody said so or the certificate does.
  credential_expires    BIGINT,
  sealed_credential     BYTEA NOT NULL,
  previous_id           UUID,
  previous_client_id    TEXT,
  previous_kind         TEXT,
  previous_expires      BIGINT,
  sealed_previous       BYTEA,
  created_at            BIGINT NOT NULL,
  revision              BIGINT NOT NULL,
  row_mac               BYTEA NOT NULL
);
CREATE INDEX providers_vault ON providers (vault_id);

CREATE TABLE generations (
  vault_id   UUID NOT NULL REFERENCES vaults (id),
  generation BIGINT NOT NULL,
  kid        TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  PRIMARY KEY (vault_id, generation)
);

-- The vault key of one generation under one key version. `generations.kid` points at the wrap in use.
CREATE TABLE wraps (
  vault_id      UUID NOT NULL REFERENCES vaults (id),
  generation    BIGINT NOT NULL,
  kid           TEXT NOT NULL,
  provider_id   UUID NOT NULL,
  algorithm     TEXT NOT NULL,
  wrapped       BYTEA NOT NULL,
  created_at    BIGINT NOT NULL,
  -- NULL while it is the one in use.
  superseded_at BIGINT,
  row_mac       BYTEA NOT NULL,
  PRIMARY KEY (vault_id, generation, kid)
);

-- What the nodes know of a vault's key. A row with `dark_since` is a denial mark: every node refuses the vault.
CREATE TABLE key_states (
  vault_id         UUID PRIMARY KEY REFERENCES vaults (id),
  status           TEXT NOT NULL,
  code             TEXT NOT NULL,
  detail           TEXT NOT NULL,
  azure_request_id TEXT,
  -- The key version that it is about.
  kid              TEXT NOT NULL DEFAULT '',
  node             UUID NOT NULL,
  since            BIGINT NOT NULL,
  changed_at       BIGINT NOT NULL
);

-- What the provider says of the key under which a vault's new wraps go, as it was last asked.
-- A row may outlive its vault for an hour.
CREATE TABLE key_watch (
  vault_id         UUID PRIMARY KEY,
  newest_kid       TEXT,
  key_type         TEXT,
  bits             BIGINT,
  enabled          BIGINT,
  expires_at       BIGINT,
  not_before       BIGINT,
  recovery_level   TEXT,
  recoverable_days BIGINT,
  -- When it was last described, and when that was last tried; `error` is the code of a try that failed.
  seen_at          BIGINT,
  asked_at         BIGINT NOT NULL,
  error            TEXT,
  -- What the latest check of the vault warned of or failed at: codes of its lines, with spaces between.
  check_codes      TEXT,
  checked_at       BIGINT
);

-- Unwraps of a vault's key that this instance asked for, by the minute; kept for thirty days.
CREATE TABLE key_samples (
  vault_id       UUID NOT NULL,
  minute         BIGINT NOT NULL,
  ok             BIGINT NOT NULL,
  failed         BIGINT NOT NULL,
  latency_ms_sum BIGINT NOT NULL,
  latency_ms_max BIGINT NOT NULL,
  PRIMARY KEY (vault_id, minute)
);

CREATE TABLE items (
  id              UUID PRIMARY KEY,
  workspace_id    UUID NOT NULL REFERENCES workspaces (id),
  vault_id        UUID NOT NULL REFERENCES vaults (id),
  revision        BIGINT NOT NULL,
  data_key_id     UUID NOT NULL,
  sealed_overview BYTEA NOT NULL,
  sealed_details  BYTEA NOT NULL,
  created_by      UUID NOT NULL,
  created_at      BIGINT NOT NULL,
  updated_by      UUID NOT NULL,
  updated_at      BIGINT NOT NULL,
  restored_from   BIGINT,
  trashed_at      BIGINT
);
CREATE INDEX items_vault ON items (vault_id, trashed_at);

CREATE TABLE data_keys (
  id         UUID PRIMARY KEY,
  item_id    UUID NOT NULL REFERENCES items (id),
  vault_id   UUID NOT NULL REFERENCES vaults (id),
  generation BIGINT NOT NULL,
  wrapped    BYTEA NOT NULL,
  created_at BIGINT NOT NULL
);
CREATE INDEX data_keys_item ON data_keys (item_id);
CREATE INDEX data_keys_generation ON data_keys (vault_id, generation);

CREATE TABLE item_revisions (
  item_id         UUID NOT NULL REFERENCES items (id),
  revision        BIGINT NOT NULL,
  data_key_id     UUID NOT NULL,
  sealed_overview BYTEA NOT NULL,
  sealed_details  BYTEA NOT NULL,
  created_by      UUID NOT NULL,
  created_at      BIGINT NOT NULL,
  restored_from   BIGINT,
  PRIMARY KEY (item_id, revision)
);

CREATE TABLE item_roles (
  item_id    UUID NOT NULL REFERENCES items (id),
  member_id  UUID NOT NULL REFERENCES members (id),
  role       TEXT NOT NULL,
  granted_by UUID NOT NULL,
  granted_at BIGINT NOT NULL,
  PRIMARY KEY (item_id, member_id)
);
CREATE INDEX item_roles_member ON item_roles (member_id, item_id);

-- How long an item has lain in the trash while its vault's key answered: time in the dark does not count.
CREATE TABLE trash_ages (
  item_id UUID PRIMARY KEY REFERENCES items (id),
  aged_ms BIGINT NOT NULL
);

-- Until when the trash of a vault has been aged.
CREATE TABLE trash_passes (
  vault_id  UUID PRIMARY KEY REFERENCES vaults (id),
  passed_at BIGINT NOT NULL
);

-- Long work in the background. What a job does, it counts in the same transaction. A node holds a job by a lease, and
-- `fence` grows with each holder. Vaults are named without reference: the account of a job outlives them.
-- `mac` is over what a job may do, its state included; `chosen` is the digest of the chosen items that it covers.
CREATE TABLE jobs (
  id             UUID PRIMARY KEY,
  workspace_id   UUID NOT NULL REFERENCES workspaces (id),
  kind           TEXT NOT NULL,
  vault_id       UUID NOT NULL,
  target_id      UUID,
  whole          BIGINT NOT NULL,
  -- Items may leave Azure for a Cloud vault.
  weakens        BIGINT NOT NULL,
  chosen         BYTEA,
  state          TEXT NOT NULL,
  total          BIGINT NOT NULL,
  done           BIGINT NOT NULL,
  failed         BIGINT NOT NULL,
  waiting_code   TEXT,
  waiting_detail TEXT,
  due_at         BIGINT NOT NULL,
  node           UUID,
  lease_ends     BIGINT NOT NULL,
  fence          BIGINT NOT NULL,
  started_by     UUID NOT NULL,
  created_at     BIGINT NOT NULL,
  updated_at     BIGINT NOT NULL,
  finished_at    BIGINT,
  mac            BYTEA NOT NULL
);
CREATE INDEX jobs_workspace ON jobs (workspace_id, id);
CREATE INDEX jobs_due ON jobs (due_at) WHERE state = 'running';
-- One job of a kind works on a whole vault.
CREATE UNIQUE INDEX jobs_one ON jobs (vault_id, kind) WHERE finished_at IS NULL AND whole = 1;

-- The items of a job, and what became of each: `done`, `kept` with the code of the reason, `gone`; NULL is still to do.
CREATE TABLE job_items (
  job_id   UUID NOT NULL REFERENCES jobs (id),
  item_id  UUID NOT NULL,
  -- Where it was when it was listed: elsewhere, the job leaves it alone.
  vault_id UUID NOT NULL,
  -- It came into the vault after the job began.
  late     BIGINT NOT NULL,
  outcome  TEXT,
  code     TEXT,
  PRIMARY KEY (job_id, item_id)
);
CREATE INDEX job_items_outcome ON job_items (job_id, outcome);
CREATE INDEX job_items_todo ON job_items (job_id, item_id) WHERE outcome IS NULL;

-- `bytes` is the event; the other columns repeat parts of it for queries and are checked against it by `audit verify`.
CREATE TABLE audit_events (
  id           UUID PRIMARY KEY,
  node         UUID NOT NULL,
  boot         UUID NOT NULL,
  sequence     BIGINT NOT NULL,
  workspace_id UUID,
  actor_id     UUID,
  target_id    UUID,
  action       TEXT NOT NULL,
  at           BIGINT NOT NULL,
  bytes        BYTEA NOT NULL,
  mac          BYTEA NOT NULL,
  UNIQUE (boot, sequence)
);
CREATE INDEX audit_events_workspace ON audit_events (workspace_id, id);
CREATE INDEX audit_events_target ON audit_events (target_id, id);

-- The Merkle log over all events (docs/format.md). One row says where it stands. A node assigns indexes and signs by a
-- lease, and `fence` grows with each holder. The key that signs is sealed under the instance key.
CREATE TABLE log_state (
  one        BIGINT PRIMARY KEY,
  origin_id  UUID NOT NULL,
  size       BIGINT NOT NULL,
  node       UUID,
  lease_ends BIGINT NOT NULL,
  fence      BIGINT NOT NULL,
  sealed_key BYTEA NOT NULL
);

-- Each name that the log has had. It begins where its parent had come to: `size` and `root` are the parent's.
CREATE TABLE log_origins (
  id         UUID PRIMARY KEY,
  parent_id  UUID,
  size       BIGINT NOT NULL,
  root       BYTEA NOT NULL,
  why        TEXT NOT NULL,
  created_at BIGINT NOT NULL
);

-- Every chain, and the sequence from which on its events have no index yet.
CREATE TABLE log_chains (
  boot          UUID PRIMARY KEY,
  node          UUID NOT NULL,
  next_sequence BIGINT NOT NULL
);

CREATE TABLE log_leaves (
  log_index BIGINT PRIMARY KEY,
  boot      UUID NOT NULL,
  sequence  BIGINT NOT NULL,
  UNIQUE (boot, sequence)
);

-- The hashes of the tree, leaves included, in the order of golang.org/x/mod/sumdb/tlog.
CREATE TABLE log_hashes (
  position BIGINT PRIMARY KEY,
  hash     BYTEA NOT NULL
);

-- Signed tree heads; of those older than two days one a day is kept.
CREATE TABLE log_checkpoints (
  origin_id  UUID NOT NULL,
  size       BIGINT NOT NULL,
  note       TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  PRIMARY KEY (origin_id, size)
);

-- What the people who manage a workspace are told. Ids and codes, never item text. `once` names what it tells of, so
-- that nothing is told twice; `over_at` says when that was over. A vault that is gone keeps its notices.
CREATE TABLE notices (
  id           UUID PRIMARY KEY,
  workspace_id UUID NOT NULL REFERENCES workspaces (id),
  kind         TEXT NOT NULL,
  severity     TEXT NOT NULL,
  code         TEXT NOT NULL,
  vault_id     UUID,
  -- The job that it tells of.
  job_id       UUID,
  -- When what it warns of happens.
  until        BIGINT,
  once         TEXT NOT NULL,
  created_at   BIGINT NOT NULL,
  over_at      BIGINT,
  -- Whether its deliveries were made out.
  sent_out     BIGINT NOT NULL,
  UNIQUE (workspace_id, once)
);
CREATE INDEX notices_vault ON notices (vault_id, kind);
CREATE INDEX notices_sent_out ON notices (sent_out);

CREATE TABLE notice_reads (
  notice_id UUID NOT NULL REFERENCES notices (id),
  member_id UUID NOT NULL REFERENCES members (id),
  read_at   BIGINT NOT NULL,
  PRIMARY KEY (notice_id, member_id)
);

-- Managers who do not want notices by e-mail.
CREATE TABLE notice_mail_refusals (
  member_id UUID PRIMARY KEY REFERENCES members (id)
);

-- Address and signing secret are sealed together: both are often secrets, and neither can be planted.
CREATE TABLE webhooks (
  id             UUID PRIMARY KEY,
  workspace_id   UUID NOT NULL REFERENCES workspaces (id),
  sealed_target  BYTEA NOT NULL,
  created_by     UUID NOT NULL,
  created_at     BIGINT NOT NULL
);

-- What is still to be sent, and what became of what was. `recipient_id` is a webhook or a member. Whoever sends one
-- moves `next_at` into the future first: that is its lease.
CREATE TABLE deliveries (
  notice_id    UUID NOT NULL REFERENCES notices (id),
  recipient_id UUID NOT NULL,
  channel      TEXT NOT NULL,
  state        TEXT NOT NULL,
  attempts     BIGINT NOT NULL,
  next_at      BIGINT NOT NULL,
  tried_at     BIGINT,
  outcome      TEXT NOT NULL,
  created_at   BIGINT NOT NULL,
  PRIMARY KEY (notice_id, recipient_id)
);
CREATE INDEX deliveries_due ON deliveries (state, next_at);
CREATE INDEX deliveries_recipient ON deliveries (recipient_id, created_at);

-- Backups that this instance made, so that the census of a key counts them. `retired_at`: every copy of it was destroyed.
CREATE TABLE backups (
  id         UUID PRIMARY KEY,
  made_at    BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  retired_at BIGINT,
  row_count  BIGINT NOT NULL
);

-- The key versions that a backup opens through.
CREATE TABLE backup_kids (
  backup_id UUID NOT NULL REFERENCES backups (id),
  vault_id  UUID NOT NULL,
  kid       TEXT NOT NULL,
  PRIMARY KEY (backup_id, vault_id, kid)
);
CREATE INDEX backup_kids_kid ON backup_kids (kid);
