--- The one source of Tidegate's settings: names, types, ranges, defaults, docs. `struct config` (src/config/config.h)
--- mirrors it; loading fails if they differ. scripts/update_reference.lua generates conf/REFERENCE.md from it.
--- Shape of a field: see schema.lua. Units are in the names. Docs are one or two Markdown sentences.

local keys = require "config_keys"
local routes = require "config_routes"

local KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
local HOUR, DAY = 3600, 86400
local YEARS_100 = 100 * 365 * DAY
local COUNT_MAX = 1 << 53 -- ids are below 2^53

local function integer(name, default, min, max, unit, doc)
  return { name = name, kind = "integer", default = default, min = min, max = max, unit = unit, doc = doc }
end

local function bytes(name, default, min, max, doc)
  return integer(name, default, min, max, "bytes", doc)
end

local function seconds(name, default, min, max, doc)
  return integer(name, default, min, max, "seconds", doc)
end

local function milliseconds(name, default, min, max, doc)
  return integer(name, default, min, max, "milliseconds", doc)
end

local function boolean(name, default, doc)
  return { name = name, kind = "boolean", default = default, doc = doc }
end

local function choice(name, default, choices, doc)
  return { name = name, kind = "text", default = default, choices = choices, doc = doc }
end

local function section(name, doc, fields)
  return { name = name, kind = "section", doc = doc, fields = fields }
end

local function optional_path(name, doc)
  return { name = name, kind = "text", off = true, default = false, expect = "the path of a file", doc = doc }
end

local ADDRESS_EXPECT = '"HOST:PORT", "[IPV6]:PORT" or "unix:/path"'

local function file(name, doc)
  return { name = name, kind = "text", required = true, expect = "the path of a file", doc = doc }
end

local certificate_fields = {
  {
    name = "names", kind = "list", max = 100, default = {},
    of = {
      kind = "text", max = 253, pattern = "^%*?[%w%.%-]+$", expect = 'a host name such as "a.example" or "*.a.example"',
    },
    doc = "For which server names (SNI) the certificate is used; `*.` stands for one label. `{}`: those in the "
      .. "certificate.",
  },
  file("cert", "PEM: the certificate, and behind it those that issued it (certbot: `fullchain.pem`)."),
  file("key", "PEM: its private key, ECDSA or RSA, without a passphrase (certbot: `privkey.pem`)."),
}

local listener_fields = {
  {
    name = "address", kind = "text", required = true, format = "address", expect = ADDRESS_EXPECT,
    doc = "HOST is an address, not a name; port 0 lets the kernel pick one. `\"systemd:NAME\"` is a socket that "
      .. "systemd passes. `\"unix:/run/tidegate/http.sock?mode=0660&group=www-data\"`: mode and group of the file of "
      .. "a Unix socket, each may be left out; the broker's user must be a member of the group.",
  },
  {
    name = "tls", kind = "array", max = 64, expect = "{ cert = ..., key = ... }", fields = certificate_fields,
    doc = "Certificates, which make this a listener for `https`. Clients that name none of their names get the first. "
      .. "Files that change are loaded within six seconds; no stream is closed.",
  },
  choice("client", "none", { "none", "optional", "required" },
    "`tls`: whether clients must show a certificate. `\"optional\"`: one that is shown must be valid."),
  optional_path("client_ca", "`tls`: certificates (PEM) of the authorities that issue certificates of clients."),
  boolean("proxy_protocol", false,
    "Each connection must begin with a header of the PROXY protocol, version 1 or 2, which names the client. Only "
      .. "peers of `trusted_proxies` may connect, unless that is empty."),
  boolean("redirect_https", false,
    "Requests that come without TLS get 308 to `https` at `http.https_port`, streams as well. Challenges of "
      .. "`http.acme_webroot` are answered."),
  optional_path("client_crl", "`tls`: list (PEM) of certificates of clients that are no longer valid."),
}

local fields = {
  {
    name = "listen", kind = "array", min = 1, max = 64, default = { "127.0.0.1:8080" }, short = "address",
    expect = ADDRESS_EXPECT .. ", or a table", fields = listener_fields,
    doc = "Where clients subscribe and publish. A text is an `address` without other settings.",
  },
  {
    name = "admin", kind = "text", off = true, default = "127.0.0.1:8081", format = "local_address",
    expect = 'a loopback "HOST:PORT", "[::1]:PORT" or "unix:/path"',
    doc = "Health, metrics and operations: loopback or a Unix socket only, which may have a mode and a group as in "
      .. "`listen`. `false`: no such listener.",
  },
  {
    name = "admin_public", kind = "text", off = true, default = false, format = "address", expect = ADDRESS_EXPECT,
    doc = "`/healthz`, `/readyz` and `/metrics` of the admin service, to be read only, for probes and Prometheus on "
      .. "other machines: any address, and any `Host`. `/readyz` may name your database server. It needs "
      .. "`admin`. `false`: no such listener.",
  },
  {
    name = "admin_identity", kind = "list", max = 16, default = {},
    of = { kind = "text", max = 64, expect = 'the name of a field of identities, such as "sub"' },
    doc = "Fields of the identity (what `authenticate` returns) that operators may see and ask for: in `/connections`, "
      .. "`tidegate connections --who sub=ann`, `tidegate explain --who sub=ann`, and as `who=` in lines of the log. "
      .. "`{}`: none.",
  },
  {
    name = "trusted_proxies", kind = "list", max = 256, default = {},
    of = { kind = "text", format = "network", expect = 'an address, a network such as "10.0.0.0/8", or "unix"' },
    doc = "Peers whose `X-Forwarded-For` is trusted to name the client's address.",
  },
  {
    name = "workers", kind = "integer", min = 1, max = 64, unit = "workers", words = { auto = 0 }, default = 1,
    doc = "Processes that share the listening addresses and the store. `\"auto\"`: one for each processor core. Limits "
      .. "and sizes apply to each worker.",
  },

  section("tls", "TLS, on all listeners that have `tls`.", {
    boolean("compact", true,
      "Connections of TLS 1.3 keep no more than their keys after the handshake, some 250 bytes; the broker itself "
        .. "encrypts their records, with OpenSSL's ciphers. `false`: OpenSSL goes on, with 14 KB for each."),
  }),

  section("http", "The public HTTP surface.", {
    {
      name = "events_path", kind = "text", default = "/events", max = 255, pattern = "^/[%w%-._~/]*$",
      expect = 'a path such as "/events" (letters, digits, - . _ ~ /)',
      doc = "`GET` subscribes, `POST` publishes.",
    },
    {
      name = "content_type", kind = "text", default = "text/event-stream; charset=utf-8", max = 255,
      pattern = "^[%w.+-]+/[%w.+-]+[ -~]*$",
      expect = 'a media type such as "text/event-stream"',
      doc = "`Content-Type` of the stream. Without the charset some clients (Python's `requests`) read Latin-1.",
    },
    boolean("h2", true,
      "Speak HTTP/2 with clients that ask for it. Without TLS they must know beforehand, as with "
        .. "`curl --http2-prior-knowledge`."),
    boolean("page", true, "`GET /` serves a small test page, to clients of this machine."),
    boolean("page_public", false, "To all other clients as well."),
    {
      name = "health_path", kind = "text", off = true, default = false, max = 255, pattern = "^/[%w%-._~/]*$",
      expect = 'a path such as "/healthz" (letters, digits, - . _ ~ /)',
      doc = "Says 200 or 503, as `/readyz` of `admin` does, and nothing else: for load balancers, which reach only "
        .. "these listeners. `false`: no such path.",
    },
    routes.field,
    {
      name = "query_params", kind = "list", max = 64, default = {},
      of = { kind = "text", max = 64, expect = 'the name of a query parameter such as "since"' },
      doc = "Names in the query that the policy reads. `{}`: any, but `since`, `until`, `limit`, and those "
        .. "that nearly are the broker's own (`topics`), get 400. Otherwise all that are neither here nor the "
        .. "broker's own, nor in "
        .. "`policy.credential_params`, get 400, with the name that was probably meant.",
    },
    {
      name = "cors_origins", kind = "list", max = 256, default = {},
      of = {
        kind = "text", max = 255, format = "origin",
        expect = 'an origin such as "https://app.example" (no path, no trailing slash), or "*"',
      },
      doc = 'Origins whose pages may use this broker. `"https://*.app.example"` means all names below `app.example`. '
        .. '`"*"` stands alone and means every origin.',
    },
    {
      name = "cors_headers", kind = "list", max = 64,
      default = {
        "traceparent", "tracestate", "baggage", "sentry-trace", "x-api-key", "x-request-id", "mcp-session-id",
        "mcp-protocol-version",
      },
      of = {
        kind = "text", max = 64, pattern = "^[%w!#$%%&'*+.^_`|~-]+$",
        expect = 'the name of a header such as "x-api-key"',
      },
      doc = 'Headers that those pages may send, besides `Authorization`, `Cache-Control`, `Content-Type`, '
        .. '`Idempotency-Key`, `Last-Event-ID` and `X-Requested-With`. `"*"`: any, where no credentials are sent.',
    },
    boolean("cors_credentials", false,
      'Pages of those origins may send cookies and credentials. Not together with `"*"`.'),
    {
      name = "hosts", kind = "list", max = 256, default = {},
      of = {
        kind = "text", max = 255, pattern = "^[%w%-._%[%]:]+$", format = "host",
        expect = 'the name of a host such as "events.example" (no port)',
      },
      doc = "Names that requests may ask for (`Host`) on loopback addresses, besides `localhost`, 127.x.x.x and "
        .. "`[::1]`; others get 421, so that no page of the web can lead a browser there. Not needed for requests of "
        .. "`trusted_proxies`, and over TLS. The same for `admin`.",
    },
    routes.webhook_origins,
    boolean("cross_site_publish", false,
      "Pages of other sites than the broker's own and those of `cors_origins` may publish, with the cookies of their "
        .. "visitor. `false`: 403."),
    seconds("cors_max_age_s", 600, 0, DAY, "How long a browser may remember the answer to a preflight."),
    integer("https_port", 443, 1, 65535, "port", "Where listeners with `redirect_https` send clients."),
    seconds("hsts_s", 0, 0, 10 * 365 * DAY,
      "`Strict-Transport-Security` in every answer by TLS: how long browsers use `https` only for this host. `0`: "
        .. "not sent. Browsers do not forget it before that."),
    {
      name = "acme_webroot", kind = "text", off = true, default = false, expect = "the path of a directory",
      doc = "Serves the challenges that certbot (`--webroot -w`) and the like put below it, to prove who owns a name.",
    },
  }),

  section("sse", "Streams.", {
    seconds("heartbeat_s", 15, 1, HOUR,
      "A comment is sent after that much silence, so that proxies keep the stream open."),
    seconds("dead_peer_s", 60, 2, DAY,
      "A client that acknowledges nothing for that long is disconnected. Longer than `heartbeat_s`."),
    milliseconds("retry_ms", 3000, 100, HOUR * 1000,
      "How long a client waits before it reconnects: a random value between 0.5 and 1.5 times this."),
    seconds("refusal_hold_s", 4, 0, 30,
      "A stream that is temporarily refused (the store is down, a policy error) is held open that long before it ends, "
        .. "so that clients that reconnect without a pause do not do so hundreds of times a second."),
    bytes("turn_bytes", 256 * KIB, 4 * KIB, 16 * MIB,
      "Most bytes one stream gets per turn of the event loop, for fairness among streams."),
    integer("max_lag_events", 0, 0, COUNT_MAX, "events",
      "How far a stream may be behind the newest event. `0`: no bound."),
    choice("on_lag", "close", { "close", "skip" },
      "What happens beyond that: the stream closes and the client resumes, or the stream skips to the newest event and "
        .. "announces the gap."),
    {
      name = "gap_event", kind = "text", default = "gap", max = 64, pattern = "^[%w._:-]+$",
      expect = "an event name (letters, digits, . _ : -)",
      doc = "Name of the event that announces missing history.",
    },
    {
      name = "live_event", kind = "text", default = "live", max = 64, pattern = "^[%w._:-]+$",
      expect = "an event name (letters, digits, . _ : -)",
      doc = "Name of the event behind the newest events of all topics, for streams that begin with them: from here on "
        .. "events are new.",
    },
    {
      name = "revoked_event", kind = "text", default = "revoked", max = 64, pattern = "^[%w._:-]+$",
      expect = "an event name (letters, digits, . _ : -)",
      doc = "Name of the last event of a stream that the policy no longer grants.",
    },
    {
      name = "end_event", kind = "text", default = "end", max = 64, pattern = "^[%w._:-]+$",
      expect = "an event name (letters, digits, . _ : -)",
      doc = "Name of the last event of a stream that ends by itself (`until=`, `limit=`). Choose another one if your "
        .. "own events use this name.",
    },
    choice("prime", "event", { "event", "id", "data", "none" },
      "How a stream sends the position it starts at: as an event named `position_event`, as an `id:` alone, as a "
        .. "message with empty data, or not at all."),
    choice("topic", "none", { "none", "comment", "event" },
      "How each event says of which topic it is: not at all, as a comment `:topic orders/7` that people see and "
        .. "programs do not, or as the name of the event, in place of its type (a format that names the event wins). "
        .. "See `envelope` of subscriptions, too."),
    {
      name = "position_event", kind = "text", default = "position", max = 64, pattern = "^[%w._:-]+$",
      expect = "an event name (letters, digits, . _ : -)",
      doc = "Name of the event that holds the position. Choose another one if your own events use this name.",
    },
    {
      name = "cloudevents_source", kind = "text", default = "tidegate", max = 255, pattern = "^[!-~]+$",
      expect = 'a URI without spaces, such as "https://events.example.org"',
      doc = "Format `\"cloudevents\"`: the `source` of events that did not come in as CloudEvents. With their ids it "
        .. "names them, so give each store its own.",
    },
    milliseconds("snapshot_ms", 200, 0, 60000, "Snapshots that begin within that time are one: read once."),
    seconds("position_s", 60, 0, HOUR,
      "A stream without events gets its position in place of a heartbeat, at most once in that time. `0`: never."),
  }),

  section("compress", "Compression of event streams.", {
    boolean("gzip", false,
      "Streams are compressed for clients whose `Accept-Encoding` takes gzip. Read about secrets first."),
    integer("min_members", 8, 1, COUNT_MAX, "streams",
      "Only where so many streams have the same subscription: events are compressed once for all of them."),
    bytes("bytes", 64 * MIB, MIB, TIB,
      "Most memory of encoders: 272 KiB for each subscription that has one. Without, each event is compressed alone."),
  }),

  section("event_log", "The newest events, in memory. Streams that are further behind read pages from the store.", {
    integer("max_events", 65536, 16, 1 << 24, "events", "Most events kept."),
    bytes("max_bytes", 64 * MIB, 64 * KIB, TIB, "Most bytes kept. At least `limits.event_bytes`."),
    integer("page_events", 1000, 1, 100000, "events", "Most events of one page."),
    bytes("page_bytes", 1 * MIB, 4 * KIB, GIB, "Most bytes of one page. At least `sse.turn_bytes`."),
    bytes("page_cache_bytes", 16 * MIB, 0, TIB,
      "Pages kept for other streams at the same place. `0`, or at least `event_log.page_bytes`."),
  }),

  section("store", "Where events survive.", {
    choice("driver", "sqlite", { "sqlite", "postgres" },
      "`sqlite`: embedded, one broker. `postgres`: any number of brokers on one database."),
    {
      name = "path", kind = "text", default = "data", expect = "the path of a directory",
      doc = "`sqlite`: directory of the database, created if it does not exist. Relative to the configuration file.",
    },
    choice("synchronous", "full", { "full", "normal" },
      "`sqlite`, `full`: an acknowledged event survives power loss. `normal`: it survives a crash of the broker only."),
    milliseconds("poll_ms", 1000, 10, 60000,
      "Fallback: how often the broker looks for events that other programs inserted. Usually a file watch is faster."),
    milliseconds("busy_timeout_ms", 5000, 0, 600000, "`sqlite`: how long a commit waits for another program's lock."),
    integer("max_queue_events", 20000, 1, 10000000, "events",
      "Events waiting for their commit; beyond it publishing answers 503. At least `limits.batch_events`."),
    bytes("max_queue_bytes", 64 * MIB, 64 * KIB, TIB, "The same in bytes. At least `limits.body_bytes`."),
    seconds("retain_age_s", 7 * DAY, 0, YEARS_100, "Older events are removed. `0`: no bound."),
    integer("retain_events", 0, 0, COUNT_MAX, "events", "Beyond that many the oldest are removed. `0`: no bound."),
    bytes("retain_bytes", 0, 0, COUNT_MAX, "Beyond that size the oldest are removed. `0`: no bound."),
    seconds("key_window_s", DAY, 0, YEARS_100, "How long an idempotency key is remembered. `0`: not at all."),
    {
      name = "latest", kind = "list", max = 64, default = {},
      of = {
        kind = "text", max = 255, format = "topics",
        expect = 'a pattern of topics such as "score/*" or "tick/**"',
      },
      doc = "Topics whose newest event is kept for as long as nothing takes its place, whatever retention removes, for "
        .. "streams that begin with the state of now. An event with empty data removes its topic. All brokers of a "
        .. "store name the same. Topics that are named later are looked for in the events that are there.",
    },
    integer("latest_topics", 100000, 1, 10000000, "topics",
      "Most topics of `store.latest`; an event of a further one is refused with `507`, and counted. What they hold "
        .. "counts towards `store.retain_bytes`."),
    {
      name = "conninfo", kind = "text", off = true, default = false, secret = true, format = "conninfo",
      expect = 'a connection string such as "host=db1,db2 dbname=app user=tidegate"',
      doc = "`postgres`: where the database is, as libpq reads it (`host`, `port`, `dbname`, `user`, `password`, "
        .. "`sslmode`, ...; a URI is fine too). Never logged. Take the password from `env()`, or from `passfile`.",
    },
    choice("migrate", "auto", { "auto", "manual" },
      "`postgres`, `auto`: `serve` creates and updates the schema. `manual`: only `tidegate migrate` does."),
    integer("history_connections", 2, 1, 4, "connections", "`postgres`: for reading pages; four more are always open."),
    milliseconds("append_timeout_ms", 3000, 100, 10000,
      "`postgres`: a publish that the database has not answered within that time gets `503`; it may have been stored."),
    milliseconds("outbox_poll_ms", 20, 1, 10000,
      "`postgres`: how often the leading broker checks an idle outbox, and the longest pause between the batches of a "
        .. "busy one."),
    integer("batch_rows", 1000, 1, 100000, "rows", "`postgres`: most rows moved from the outbox in one transaction."),
    integer("partition_ids", 1000000, 1000, 1 << 40, "ids",
      "`postgres`: ids per partition of the events. Retention removes whole partitions, and single events only from "
        .. "the newest one."),
    seconds("upkeep_alarm_s", 3600, 1, 30 * 86400,
      "`postgres`: `/readyz` reports a step of the upkeep (such as retention) that has failed for that long."),
  }),

  section("database", "The database that policies query with `db.query`, read only. Independent of `store`.", {
    choice("driver", "none", { "none", "postgres", "sqlite" }, "What kind of database it is."),
    {
      name = "conninfo", kind = "text", off = true, default = false, secret = true, format = "conninfo",
      expect = 'a connection string such as "host=replica dbname=app user=tidegate_policy"',
      doc = "`postgres`: as `store.conninfo`; a standby is sufficient. Use a role that may only read.",
    },
    {
      name = "path", kind = "text", off = true, default = false, expect = "the path of a file",
      doc = "`sqlite`: the file of another application. Relative to the configuration file.",
    },
    integer("connections", 4, 1, 64, "connections",
      "`postgres`: how many are kept open. One more for the `sets` of a policy that has some."),
    integer("queue", 256, 1, 100000, "queries",
      "Queries that wait for a connection; beyond it `db.query` fails at once."),
    milliseconds("timeout_ms", 2000, 10, 60000,
      "Time limit of a query, including its wait for a connection. The query is then cancelled."),
    integer("max_rows", 1000, 1, 100000, "rows", "Most rows of a result; beyond it `db.query` fails."),
    bytes("max_bytes", 1 * MIB, 1 * KIB, 64 * MIB, "The same in bytes."),
  }),

  {
    name = "http_targets", kind = "map", max = 256,
    doc = "Servers that policies may call with `http.get` and `http.post`, by name, and no others. Redirects "
      .. "are not followed, certificates are verified, proxies of the environment are ignored.",
    fields = {
      {
        name = "url", kind = "text", required = true, max = 2048, format = "http_url",
        expect = 'a URL such as "https://users.internal/v1"',
        doc = "The base URL; a policy adds path and query. Without user, password and query.",
      },
      milliseconds("timeout_ms", 2000, 10, 60000, "Time limit of a complete answer, including the wait in the queue."),
      bytes("max_response_bytes", 256 * KIB, 1, 64 * MIB, "A longer body is an error."),
      {
        name = "headers", kind = "list", max = 32, default = {},
        of = { kind = "text", format = "http_header", expect = 'a header such as "Authorization: Bearer ..."',
          secret = true },
        doc = "Sent with every request. Take secrets from `env()`.",
      },
      {
        name = "ca_file", kind = "text", off = true, default = false, expect = "the path of a file",
        doc = "PEM: the authorities to trust, instead of the system's. Relative to the configuration file.",
      },
    },
  },

  section("policy", "Who may connect, and what they may see.", {
    {
      name = "file", kind = "text", required = true, expect = "the path of a Lua file",
      doc = "The policy. Relative to the configuration file.",
    },
    {
      name = "path", kind = "list", max = 16, default = {}, of = { kind = "text", expect = "the path of a directory" },
      doc = "Where `require` looks after the policy's own directory, in that order: modules that several policies "
        .. "share. Relative to the configuration file. Read again when the policy is reloaded.",
    },
    {
      name = "settings", kind = "values", max = 64, default = {},
      expect = "a text, a number, true, false, a list of texts, or secret(...)",
      parts = {
        { name = "type", kind = "text" }, { name = "text", kind = "text" },
        { name = "items", kind = "list", of = { kind = "text" } },
      },
      doc = "What the policy is given as `tg.settings`; it declares which there are and of which type. "
        .. "`secret(env \"HOOK_KEY\")`, or `secret { file = \"hook.key\" }`, can be used but not shown. Read again "
        .. "when the policy is reloaded.",
    },
    {
      name = "auth", kind = "text", default = "policy", choices = { "policy", "open" },
      salvage = "open", -- it may have been meant: whether a hook is missing cannot be told
      doc = '`"open"`: the policy may omit `authenticate`. `"policy"`: the broker refuses to start without that hook.',
    },
    boolean("allow_open_public", false, 'Needed to serve `auth = "open"` on an address that other machines can reach.'),
    bytes("memory_bytes", 32 * MIB, 1 * MIB, 64 * GIB, "Most memory of the policy's Lua state."),
    integer("topics", 100, 1, 10000, "topics", "Most topics a subscription may have."),
    integer("params_keys", 32, 1, 1000, "keys", "Most keys of a subscription's `params`."),
    bytes("params_bytes", 1 * KIB, 64, MIB, "Most bytes of `params`, as JSON; part of what makes an audience."),
    bytes("identity_bytes", 2 * KIB, 64, MIB, "Most bytes of an identity, as JSON."),
    bytes("first_bytes", 64 * KIB, 64, 16 * MIB, "Most bytes of `first` of a subscription, as they are sent."),
    integer("subscribe_timeout_ms", 5000, 10, 600000, "milliseconds",
      "How long `authenticate` and `subscribe` together (and `disconnect`) may wait for databases and the like; "
        .. "then the client is temporarily refused."),
    integer("publish_timeout_ms", 2000, 10, 600000, "milliseconds",
      "The same for `authenticate` and `publish`, for all events of a request together; for each of the two where the "
        .. "body arrives after its head."),
    integer("suspended", 1024, 1, 65536, "hooks",
      "Most hooks that wait at a time, for databases and the like; others wait for their turn. `disconnect` gets a "
        .. "quarter of them."),
    integer("suspended_per_address", 16, 0, 65536, "hooks",
      "Most of them on behalf of one client address; 0: no cap. Clients of a Unix socket are not counted."),
    integer("queued", 4096, 0, 65536, "hooks",
      "Most hooks that wait for their turn because of these two; client addresses take turns, and one has at most a "
        .. "quarter of them. Further clients are temporarily refused, and so are those whose turn does not come within "
        .. "`subscribe_timeout_ms` or `publish_timeout_ms`."),
    milliseconds("subscribe_cpu_ms", 20, 1, 10000,
      "CPU time for `authenticate` and `subscribe` of one request together; a hook that needs more is stopped and "
        .. "nothing is granted. The same for `disconnect`."),
    milliseconds("publish_cpu_ms", 5, 1, 10000,
      "CPU time for `publish`, and for `observe` of an event; each further event of a batch adds a tenth. Here and for "
        .. "filters each KiB of data adds 0.2 ms."),
    milliseconds("filter_cpu_ms", 2, 1, 10000, "CPU time of a filter or a format for one event."),
    milliseconds("load_cpu_ms", 2000, 10, 600000,
      "CPU time for running the policy file when it is loaded. The same for `setup` and `reload`."),
    milliseconds("hard_limit_ms", 2000, 100, 600000,
      "If a call does not end within that CPU time after its budget, the broker logs the place and aborts. No way "
        .. "there is known."),
    {
      name = "credential_params", kind = "list", max = 64,
      default = { "access_token", "token", "jwt", "auth", "api_key", "apikey", "signature", "password",
        "authorization" },
      of = { kind = "text", max = 64, expect = "the name of a query parameter" },
      doc = "Query parameters that may be secrets: only `authenticate` sees them, and they are not stored.",
    },
    seconds("error_log_interval_s", 10, 0, HOUR,
      "Equal errors of a hook are logged once in that time, with a count. `0`: every time."),
    boolean("watch", false, "Reloads the policy when one of its files changes. For development."),
    boolean("show_version", false, "Streams begin with a comment that names the policy. For development."),
    seconds("warm_s", 600, 1, DAY, "How long the previous policy is kept for a rollback."),
    seconds("rollback_s", 60, 0, HOUR,
      "How long a new policy is watched: if it fails much more often than the previous one, the broker rolls back. "
        .. "`0`: not at all."),
    integer("quota_streams", 100000, 1, 1 << 22, "streams",
      "Most open streams that are counted for a `quota`, in all workers together; a stream counts once for each of its "
        .. "keys. Beyond it, streams with a quota are temporarily refused. 200 bytes for each that was ever needed."),
    integer("rate_keys", 65536, 1, 1 << 22, "keys",
      "Most keys that `tg.rate` has in memory, for all workers together. A key whose bucket is full again makes room; "
        .. "where there is none `tg.rate` says no. 40 bytes each."),
    integer("set_entries", 2000000, 1, 1 << 28, "values",
      "Most values of one of the policy's `sets`. A set with more is not loaded: its last values stay until they are "
        .. "stale."),
    bytes("set_bytes", 256 * MIB, 64 * KIB, 4 * GIB,
      "Most memory of one set; while it is loaded again it is there twice. A million names of 13 bytes take 32 MiB. "
        .. "Each worker has its own."),
    integer("resubscribe_per_s", 500, 1, 1000000, "streams a second",
      "For how many open streams `subscribe` runs again after a reload, or how many reconnect if `reload` says so."),
    integer("ask_again_per_s", 0, 0, 1000000, "streams a second",
      "The same for streams whose grant `expires`, and for those that an operator has asked about again. 0: as fast as "
        .. "the policy answers, beside the events; until then they go on with their old grant."),
    seconds("resubscribe_timeout_s", 60, 1, HOUR,
      "If `subscribe` fails for an open stream for that long after a reload, or does not answer for that long after "
        .. "`observe` or an operator has it asked again, the client must reconnect."),
    bytes("token_cache_bytes", 16 * MIB, 0, 64 * GIB,
      "Most memory of verified tokens, cached until they expire, about 1 KiB each. `0`: no cache."),
  }),
  section("cache", "The cache of `cache.fetch`.", {
    bytes("bytes", 8 * MIB, 64 * KIB, 64 * GIB,
      "Most memory of all values; the least recently used one is evicted first."),
    bytes("value_bytes", 64 * KIB, 256, 4 * MIB, "Most bytes of one value, as JSON."),
  }),

  section("presence", "Who is there: see `presence` of subscriptions, and [PRESENCE.md](../scripts/PRESENCE.md).", {
    seconds("grace_s", 10, 0, HOUR,
      "For so long a member stays after its last stream has ended: a client that reconnects meanwhile was never away."),
    seconds("lease_s", 30, 4, HOUR,
      "A broker that PostgreSQL has not heard of for that long is gone, and its members leave. A broker on a file of "
        .. "SQLite that ends is noticed at once."),
    integer("members", 100000, 1, 10000000, "members",
      "Most members that each worker has streams for. Beyond it, streams for further ones are temporarily refused."),
    bytes("data_bytes", 1 * KIB, 2, 64 * KIB, "Most bytes of the `data` of a member, as JSON."),
  }),

  {
    name = "keys", kind = "map", fields = keys.fields,
    doc = "Keys that tokens are verified with, for `tg.jwt(token, { keys = NAME, ... })`. Exactly one of `secret`, "
      .. "`secret_file`,\n`public_key_file`, `jwks_file`, `jwks_url` each. The broker checks files every five "
      .. "seconds, and when the policy is\nreloaded. It logs a file that it cannot read, and keeps the old keys.",
  },

  section("limits", "Limits on what clients can make the broker do.", {
    integer("max_connections", 16000, 1, 10000000, "connections", "Most open connections."),
    {
      name = "max_connections_per_address", kind = "integer", min = 0, max = 10000000, unit = "connections",
      words = { auto = -1 }, default = "auto",
      doc = "The same for one client address, or IPv6 network of 64 bits; beyond it 429. Behind `trusted_proxies` it "
        .. "bounds the streams and requests of each client. `\"auto\"`: a quarter of all, at least 64, but no bound "
        .. "for clients on this machine. `0`: no bound. Raise it where many clients share an address (NAT).",
    },
    {
      name = "new_connections_per_address_per_s", kind = "integer", min = 0, max = 1000000,
      unit = "connections a second", words = { auto = -1 }, default = "auto",
      doc = "Most new connections of one client address, or IPv6 network of 64 bits; ten seconds' worth may come at "
        .. "once. Beyond it they are closed without an answer, before a TLS handshake. Behind `trusted_proxies` it "
        .. "bounds the requests of each client but publishes: 429. `\"auto\"`: a tenth of what an address may hold, at "
        .. "least 100, but no bound for clients on this machine. `0`: no bound.",
    },
    integer("publishes_per_address_per_s", 0, 0, 1000000, "requests a second",
      "Most publishing requests of one client address, or IPv6 network of 64 bits; ten seconds' worth may come at "
        .. "once; beyond it 429. `0`: no bound, because a backend publishes all it has from one address."),
    integer("h2_streams", 256, 1, 100000, "streams",
      "Most open streams of one HTTP/2 connection. All but its first count as connections for "
        .. "`limits.max_connections` and `limits.max_connections_per_address`."),
    bytes("target_bytes", 8 * KIB, 64, MIB,
      "Longest request target (path and query); beyond it 414. At most `limits.head_bytes`."),
    bytes("head_bytes", 16 * KIB, 1 * KIB, MIB,
      "Longest request head; beyond it 431. It may have a cookie for each 64 bytes of this, 256 by default; with more, "
        .. "431, too."),
    integer("headers", 100, 8, 1000, "header fields", "Most header fields of a request; beyond it 431."),
    bytes("body_bytes", 8 * MIB, 1 * KIB, GIB, "Longest request body; beyond it 413."),
    bytes("bodies_bytes", 256 * MIB, 0, TIB,
      "Most bytes of all request bodies that are under way; beyond it 503. `0`: no bound. Otherwise at least "
        .. "`limits.body_bytes`."),
    bytes("bodies_bytes_per_address", 64 * MIB, 0, TIB,
      "The same for one client address, or IPv6 network of 64 bits. Otherwise at least `limits.body_bytes`."),
    bytes("event_bytes", 1 * MIB, 64, GIB, "Largest event; beyond it 413. At most `limits.body_bytes`."),
    integer("batch_events", 1000, 1, 100000, "events", "Most events of one request; beyond it 413."),
    integer("pages_at_once", 64, 1, 100000, "pages", "Most pages of JSON a worker makes at a time; beyond it 503."),
    bytes("unread_page_bytes", 64 * MIB, 64 * KIB, TIB,
      "Most bytes of pages of history as JSON that clients of a worker have asked for and not read; beyond it 503."),
    seconds("head_timeout_s", 10, 1, HOUR, "A request's head must be complete by then."),
    seconds("body_timeout_s", 30, 1, HOUR, "A request's body must be complete by then."),
    seconds("idle_timeout_s", 75, 1, DAY, "A connection without a request is closed after that."),
    integer("pipeline", 64, 1, 1024, "requests", "Most pipelined requests of a connection that wait for their answer."),
    bytes("send_buffer_bytes", 0, 0, GIB, "Size of the kernel's send buffer per socket. `0`: the kernel decides."),
  }),

  section("drain", "Shutdown.", {
    seconds("timeout_s", 10, 0, HOUR, "Streams and requests get that long to finish; then they are disconnected."),
    milliseconds("retry_ms", 3000, 0, 600000,
      "`retry:` sent to clients: a random value between 0.5 and 1.5 times this. Longer than a restart takes: Firefox "
        .. "gives up permanently when the port is closed."),
  }),

  section("log", "Lines on the standard error stream.", {
    choice("level", "info", { "debug", "info", "warn", "error" }, "The least important level that is written."),
    choice("format", "logfmt", { "logfmt", "json" }, "`json`: one JSON object a line, with the same keys."),
  }),
}

-- { a, b }: a is at least b, or a is 0 and that means something else
local at_least = {
  { "event_log.page_bytes", "sse.turn_bytes" },
  { "event_log.max_bytes", "limits.event_bytes" },
  { "event_log.page_cache_bytes", "event_log.page_bytes", or_zero = true },
  { "limits.body_bytes", "limits.event_bytes" },
  { "limits.bodies_bytes", "limits.body_bytes", or_zero = true },
  { "limits.bodies_bytes_per_address", "limits.body_bytes", or_zero = true },
  { "limits.head_bytes", "limits.target_bytes" },
  { "store.max_queue_events", "limits.batch_events" },
  { "store.max_queue_bytes", "limits.body_bytes" },
}

local function check_sizes(c, tools)
  local function require_at_least(a, b, words, plus)
    if c[a] < c[b] + plus then
      tools.report(a, ("expected %s %s (%s), found %s"):format(words, b, tools.show(c[b]), tools.show(c[a])))
    end
  end
  for _, pair in ipairs(at_least) do
    if not (pair.or_zero and c[pair[1]] == 0) then
      require_at_least(pair[1], pair[2], pair.or_zero and "0, or at least" or "at least", 0)
    end
  end
  require_at_least("sse.dead_peer_s", "sse.heartbeat_s", "more than", 1)
end

-- A client must be able to tell them apart.
local function check_event_names(c, tools)
  local names = { "sse.gap_event", "sse.revoked_event", "sse.position_event", "sse.end_event", "sse.live_event" }
  for i = 3, #names do
    for j = 1, i - 1 do
      if c[names[i]] == c[names[j]] then
        tools.report(names[i], ("is the name of %s, too: choose another one"):format(names[j]))
      end
    end
  end
end

local function check_http(c, tools)
  local report = tools.report
  if c["http.page"] and c["http.events_path"] == "/" then
    report("http.events_path", 'is "/", where the try-out page is: choose another path, or set http.page = false')
  end
  if c["http.health_path"] and c["http.health_path"] == c["http.events_path"] then
    report("http.health_path", 'is http.events_path, too: choose another path, such as "/healthz"')
  end
  local origins, any = c["http.cors_origins"], false
  for _, origin in ipairs(origins) do
    any = any or origin == "*"
  end
  if any and #origins > 1 then
    report("http.cors_origins", '"*" means every origin and must stand alone')
  end
  if any and c["http.cors_credentials"] then
    report("http.cors_credentials", 'cannot be true while http.cors_origins is { "*" }: list the origins instead')
  end
end

local function check_store(c, tools)
  local postgres = c["store.driver"] == "postgres"
  if postgres and not c["store.conninfo"] then
    tools.report("store.conninfo", 'is needed for store.driver = "postgres"')
  elseif not postgres and c["store.conninfo"] then
    tools.report("store.conninfo", 'has no effect with store.driver = "sqlite": set store.driver = "postgres"')
  end
end

local function check_database(c, tools)
  local driver = c["database.driver"]
  for name, owner in pairs { conninfo = "postgres", path = "sqlite" } do
    local path = "database." .. name
    if driver == owner and not c[path] then
      tools.report(path, ('is needed for database.driver = "%s"'):format(owner))
    elseif driver ~= owner and c[path] then
      tools.report(path,
        ('has no effect with database.driver = "%s": set database.driver = "%s"'):format(driver, owner))
    end
  end
end

-- An open broker that strangers can reach must be a decision, not an accident.
local function check_open(c, tools)
  if c["policy.auth"] ~= "open" or c["policy.allow_open_public"] then
    return
  end
  for _, listener in ipairs(c["listen"]) do
    local address = listener.address
    if address:find "^systemd:" then
      tools.report("listen", 'policy.auth = "open" admits every client, and only the service manager knows where '
        .. 'the socket "' .. address .. '" listens: set policy.allow_open_public = true if it is meant to be public, '
        .. "or if its unit (ListenStream=) has an address of this machine only; else give the policy an "
        .. 'authenticate hook and set policy.auth = "policy"')
      return
    elseif not tools.formats.local_address(address) then
      tools.report("listen", 'policy.auth = "open" admits every client, and other machines can reach this address: '
        .. "listen on 127.0.0.1, or give the policy an authenticate hook and set policy.auth = \"policy\", "
        .. "or set policy.allow_open_public = true if it is meant to be public")
      return
    end
  end
end

local function check_listeners(c, tools)
  for i, listener in ipairs(c["listen"]) do
    local path = ("listen[%d]"):format(i)
    local no_tls = #listener.tls == 0
    for _, name in ipairs { "client", "client_ca", "client_crl" } do
      if no_tls and listener[name] and listener[name] ~= "none" then
        tools.report(path .. "." .. name,
          "has no effect: this listener has no tls; give it certificates (tls = { { cert = ..., key = ... } }), "
            .. "or remove this")
      elseif name ~= "client" and listener[name] and listener.client == "none" then
        tools.report(path .. "." .. name, 'has no effect with client = "none": set client = "required" or "optional"')
      end
    end
    if listener.redirect_https and not no_tls then
      tools.report(path .. ".redirect_https", "has an effect without tls only")
    end
    if listener.client ~= "none" and not no_tls and not listener.client_ca then
      tools.report(path .. ".client_ca", ('is needed for client = "%s"'):format(listener.client))
    end
  end
end

local function check_keys(c, tools)
  for _, set in ipairs(c["keys"]) do
    local path, given = "keys." .. set.name, {}
    for _, source in ipairs(keys.SOURCES) do
      given[#given + 1] = set[source] and source or nil
    end
    if #given ~= 1 then
      tools.report(path, ("expected exactly one of %s, found %s"):format(table.concat(keys.SOURCES, ", "),
        #given == 0 and "none" or table.concat(given, " and ")))
    elseif set.ca_file and not set.jwks_url then
      tools.report(path .. ".ca_file", "has an effect with jwks_url only")
    elseif set.secret and #set.secret < 32 then
      tools.report(path .. ".secret", "expected at least 32 bytes, found " .. #set.secret)
    end
  end
end

-- Where a setting is that other programs call by another name, or have elsewhere.
local TLS = "certificates belong to a listener: listen = { { address = \"0.0.0.0:443\", tls = { { cert = \"...\", "
  .. "key = \"...\" } } } } (conf/TLS.md); without them a proxy does TLS"
local ELSEWHERE = {
  { "^tls_", TLS }, { "^ssl", TLS }, { "^cert", TLS }, { "^https$", TLS },
  { "^key_?file$", TLS }, { "^private_key", TLS }, { "^letsencrypt", TLS },
  { "^port$", 'write listen = { "127.0.0.1:8080" }' }, { "^host$", 'write listen = { "127.0.0.1:8080" }' },
  { "^bind", 'write listen = { "127.0.0.1:8080" }' }, { "^address$", 'write listen = { "127.0.0.1:8080" }' },
  { "^cors$", "see http.cors_origins" }, { "^origins?$", "see http.cors_origins" },
  { "^allowed_origins$", "see http.cors_origins" },
  { "^log_level$", "see log.level" }, { "^verbose$", 'write log = { level = "debug" }' },
  { "^postgres", "see store.driver and store.conninfo" }, { "^database_url$", "see store.driver and store.conninfo" },
  { "^dsn$", "see store.driver and store.conninfo" }, { "^db$", "see store and database" },
  { "^jwt", "keys of tokens stand in keys = { NAME = { ... } }, and the policy verifies with tg.jwt" },
  { "^secret$", "keys of tokens stand in keys = { NAME = { ... } }, and the policy verifies with tg.jwt" },
}

local function elsewhere(name)
  for _, row in ipairs(ELSEWHERE) do
    if name:find(row[1]) then
      return row[2]
    end
  end
end

return {
  doc = "The configuration is a Lua file that ends in `return { ... }`. It is data: it can use `env(name[, default])`, "
    .. "`secret(...)`\n(for `policy.settings`) and nothing else. Where the default is a number or a boolean, the "
    .. "variable must hold one too. Relative paths of files begin at the directory\nof the configuration file. "
    .. "`tidegate check CONF` reports all errors at once.\n\n"
    .. "These variables of the environment take the place of what the file says, and options of `serve` the place of "
    .. "both: `TIDEGATE_LISTEN`\n(several addresses with commas between), `TIDEGATE_ADMIN` (`none`: no such listener), "
    .. "`TIDEGATE_ADMIN_PUBLIC`, `TIDEGATE_STORE` (a file,\nor a conninfo of PostgreSQL) and `TIDEGATE_POLICY`. "
    .. "An empty one counts as not set.",
  fields = fields,
  formats = require "config_formats",
  elsewhere = elsewhere,
  rules = function(c, tools)
    if c.admin_public and not c.admin then
      tools.report("admin_public", "needs admin, which is false: set that, too")
    end
    check_sizes(c, tools)
    check_event_names(c, tools)
    check_listeners(c, tools)
    check_http(c, tools)
    routes.check(c, tools)
    check_open(c, tools)
    check_store(c, tools)
    check_database(c, tools)
    check_keys(c, tools)
  end,
}
