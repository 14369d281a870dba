-- Events in PostgreSQL 13 or later: applications publish with an INSERT in their own transactions, and any number of
-- brokers serve the same events. POSTGRESQL.md has the five minutes from an empty database to events in a browser.
--
-- Two roles. The broker's owns the schema; an application's may insert and nothing else:
--   CREATE ROLE tidegate LOGIN PASSWORD '...';
--   CREATE SCHEMA tidegate AUTHORIZATION tidegate;         -- in the database of the application
--   (tidegate migrate conf/postgres.lua, or the first `serve`, creates the tables)
--   GRANT USAGE ON SCHEMA tidegate TO app;
--   GRANT INSERT ON tidegate.outbox TO app;
--   GRANT SELECT (id) ON tidegate.outbox TO app;           -- only for ORMs: INSERT ... RETURNING id
-- Then, in the transaction of the application, after its other writes:
--   INSERT INTO tidegate.outbox (topic, data) VALUES ('orders/42', '{"state":"paid"}');
return {
  listen = { "127.0.0.1:8080" },
  admin = "127.0.0.1:8081",

  store = {
    driver = "postgres",
    -- Connects directly, not through a pooler (applications may use one). Several servers of a cluster:
    -- "host=db1,db2 dbname=app user=tidegate sslmode=verify-full"; the one that takes writes is used.
    conninfo = env("TIDEGATE_CONNINFO", "host=127.0.0.1 dbname=app user=tidegate"),
    -- migrate = "auto", -- "manual": only `tidegate migrate` changes the schema
    -- history_connections = 2, -- of 6 in all
    -- poll_ms = 1000, -- an idle broker looks for events at the latest after this; a notification usually comes first
    -- append_timeout_ms = 3000, -- a publish over HTTP that the database has not answered by then gets 503
    -- outbox_poll_ms = 20, -- how often the leading broker checks an idle outbox
    -- batch_rows = 1000,
    -- partition_ids = 1000000,
    -- retain_age_s = 7 * 24 * 3600,
    -- key_window_s = 24 * 3600,
  },

  policy = {
    file = "../scripts/policies/open.lua",
    auth = "open", -- this policy has no `authenticate`: fine on this machine, refused on a public address
  },
}
