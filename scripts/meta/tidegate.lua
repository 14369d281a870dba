---@meta tidegate
-- What a policy file can use, for people and for the Lua language server. Nothing here runs; a spec
-- holds the names against those the broker really offers.
--
-- A policy file ends in `return P`, a tg.Policy. It may `require` other files below its own directory, then
-- below those of `policy.path`, while it is being loaded only. Libraries: base without load, dofile, collectgarbage,
-- raw*, getmetatable, xpcall; string without dump; table; math; utf8; os.time, os.date and
-- os.difftime. No io, package, debug, coroutine. Globals are frozen once the file is loaded.
--
-- Everything fails closed: a hook that raises, or returns something else than is written here,
-- grants nothing. Limits: the memory of a policy is capped (policy.memory_bytes); library functions
-- refuse lists of more than 1,000,000 elements; string.rep makes at most 1 MiB. CPU time is limited for
-- each call (policy.*_cpu_ms): a hook that loops is stopped, and pcall (nested 100 times at most)
-- does not help. Patterns backtrack: string.find, match, gmatch and gsub count their steps and raise
-- after 500,000 and 16 for each byte of text; several "-", "*" or "+" on long text get there.
--
-- Functions marked @async wait: the broker suspends the hook and serves other clients meanwhile. Only
-- authenticate, subscribe, publish and disconnect may call them; in a filter, a format, or a callback
-- of table.sort or string.gsub they raise an error. The hooks of one request (authenticate and
-- subscribe; authenticate and publish) may wait for policy.subscribe_timeout_ms or
-- policy.publish_timeout_ms in all, their turn included (policy.suspended); then the client is temporarily
-- refused. When the client disconnects meanwhile, the hook ends where it waits:
-- its to-be-closed variables are closed, and the code after the call does not run.

---@alias tg.Scalar string|number|boolean

-- `authenticate` sees the whole request. `subscribe` sees only what the broker stores of it, because it
-- runs again with that when the policy is reloaded: no headers, cookies, bearer, tls (reading them raises an
-- error), and no query parameter named in policy.credential_params. `authenticate` returns what is
-- needed of those as part of the identity.
---@class tg.Request                  an unknown field raises
---@field id string                   as in X-Request-Id of the answer, and in the log (`request=`)
---@field ip string                   peer, or the trusted proxy's client address
---@field method string               "GET", "HEAD", "POST" or "DELETE" (http.routes)
---@field published tg.Published?     in `subscribe` of a POST that is answered with a stream (http.routes): the event that `publish` made of it
---@field path string                 as sent, undecoded
---@field params table<string,string> what the path has for the names in braces of http.routes, decoded; {} elsewhere
---@field query table<string,string>  decoded; of equal names the first
---@field query_all table<string,string[]> the same, of equal names all
---@field headers table<string,string> lower-case names; of equal names all, joined by ", ". Not in subscribe
---@field cookies table<string,string> of equal names the first. Not in subscribe
---@field bearer string?              token of `Authorization: Bearer`. Not in subscribe
---@field topics string[]             every `topic=` of the query: what the client asks for, unchecked
---@field last_event_id string?       where it wants to resume, unchecked; nil when subscribe is run again
---@field mark string?                the mark of that position, unchecked; when subscribe is run again, that of the stream
---@field tls tg.Tls?                 nil: the client came without TLS, or to a proxy. Not in subscribe

---@class tg.Published
---@field topic string
---@field type string                 'message' where there is none
---@field key string?
---@field attrs table<string,tg.Scalar>

---@class tg.Tls
---@field version string              "TLSv1.3" or "TLSv1.2"
---@field cipher string               "TLS_AES_256_GCM_SHA384"
---@field sni string?                 the server name that the client asked for
---@field alpn string?                "h2" or "http/1.1"; nil: the client offered nothing
---@field resumed boolean             the client went on with an earlier session
---@field client tg.TlsClient?        the client's certificate, verified by `client_ca`; nil: it has shown none

---@class tg.TlsClient
---@field subject string              "CN=device 7,O=Example" (RFC 2253)
---@field issuer string
---@field serial string               lower-case hexadecimal
---@field sha256 string               of the certificate, lower-case hexadecimal
---@field not_after integer           Unix seconds: when it expires
---@field dns string[]                alternative names by kind
---@field uri string[]
---@field email string[]

---@class tg.Identity                 scalars, at most 2048 bytes of JSON; kept for the connection
---@field expires number?             Unix seconds: the stream ends then, and the client reconnects; `c.exp` of tg.jwt
---@field [string] tg.Scalar

---@class tg.Replay
---@field max_age number?             seconds: older history is not delivered, and no gap is said for it
---@field since (number|string)?      the same from a time on: Unix seconds, "2026-11-30T12:00:00Z" (an offset, too), or "-15m", "-2h", "-3d"
---@field last integer?               1 to 1000: no more than the newest events that are for the stream (topics and filter). Looks at the newest 10,000 events of all topics: what is older is not found
---@field gap boolean?                false: what retention has removed is not announced as a gap either; what these keys hide never is

---@class tg.Limits
---@field events_per_s number?        above 0, up to 1,000,000
---@field every_s number?             0.1 to 3600: of each such interval the newest event of each topic, see scripts/STREAMS.md
---@field max_lag integer?            events behind the newest
---@field on_lag ("close"|"skip"|"latest")?  what happens to a stream further behind; "latest": it is sent the newest event of each of its topics that `store.latest` names, then goes on

-- Streams are counted by key in the broker, for all its workers: reloads of the policy change nothing.
---@class tg.Quota
---@field key string                  1 to 128 bytes of UTF-8, such as "user:" .. who.sub
---@field max integer                 1 to 1,000,000: streams of that key at a time
---@field over "deny"|"oldest"        beyond it: "deny" answers 429; "oldest" ends the oldest stream of the key (event `revoked`)

---@class tg.First
---@field event string?               one line, at most 255 bytes
---@field data string|table           a table becomes JSON

-- The member whose stream it is: the first one is announced on TOPIC/MEMBER, and the end of the last one (empty data).
---@class tg.Presence
---@field topic string                without wildcards; a pattern of `store.latest` matches what is below it
---@field member string               becomes one segment, as tg.segment() writes it
---@field data table?                 the event's data, as JSON: at most `presence.data_bytes` (1 KiB)

---@class tg.Subscription
---@field topics string[]             1 to 100 names or patterns: 'a/b', 'a/*/c', 'a/**'
---@field filter string?              a name in Policy.filters, or 'none': every event of the topics. Required where the policy has filters
---@field format string?              a name in Policy.formats, 'raw' (the data as published) or 'json' (an object {id, topic, type, time, expires, data, attrs}; expires where it has one) or 'cloudevents' (a CloudEvent). Required where the policy has formats; else 'raw'
---@field params table<string,tg.Scalar|tg.Scalar[]>?  all that filters and formats see of the client: at most 32 keys, 1024 bytes of JSON
---@field replay tg.Replay|boolean|nil  how much history; false: starts with new events, whatever the client requests
---@field start ("latest"|"now"|"earliest"|string)?  where a client without a position begins; "now" if not given, or the id of an event. "latest": with the newest event of each of its topics that `store.latest` names, then event `live`, then what comes. Where retention took what such a client comes back for, it gets the newest events behind its position and `gap` with reason "compacted"
---@field limits tg.Limits?
---@field heartbeat integer?          1 to 3600 seconds of silence
---@field retry_ms integer?           1 to 3,600,000
---@field prime ("event"|"id"|"data"|"none")?  how the stream tells its position: see `sse.prime`
---@field tags string[]?             names by which `observe` and operators reach the stream: at most 8 of 1 to 64 bytes, "user:" .. who.sub; clients do not see them
---@field compress boolean?           false: the stream is not compressed, see `compress.gzip`
---@field quota tg.Quota[]?           at most 4 keys that the stream counts for while it is open
---@field presence tg.Presence?       who is there while the stream is open, and `presence.grace_s` longer
---@field first tg.First[]?            frames to this stream alone, without an id and before history: at most `policy.first_bytes` (64 KiB). Not sent again when `subscribe` runs again
---@field mark string?               1 to 64 letters, digits, "-", "_", ".": the stream's ids are told as "58743294180011~MARK", and who comes back with one has it as `req.mark`
---@field fields table<string,string>? fields that the head of the answer has besides, at most 8; pages of http.cors_origins see them. Not sent again when `subscribe` runs again
---@field envelope boolean?           true: the data is a JSON object {id, topic, type, time, expires, data} with what the format made in it; with 'raw' that is the format 'json', which has attrs, too
---@field ends string?                a name in Policy.filters: a stream that was given an event of it ends (`true` for the last event of an answer, a job, a download). Answer the client that comes back with tg.deny(204, ...)
---@field expires integer?            Unix seconds, in the future: `subscribe` runs again then, without credentials, and what it answers goes on from there: the same, other topics, or a denial (`revoked`)

---@class tg.Event                    read-only, as is everything in it; an unknown field raises
---@field id string
---@field topic string
---@field type string                 'message' where the publisher gave none
---@field key string?                 idempotency key
---@field time number                 Unix seconds of the publish
---@field expires number?             Unix seconds from which on it is not delivered; nil: never
---@field attrs table<string,tg.Scalar>  from the publisher; empty if there are none
---@field data any                    decoded from JSON on first access; the text where it is not JSON. Raises where it is JSON that cannot be read safely (duplicate keys, numbers out of range, too deep, over 4 MiB). json.decode(ev.raw) gives a copy to change
---@field raw string                  the data as published

---@class tg.Deny
---@field status 204|400|401|403|404|409|410|413|422|429
---@field reason string               shown to the client: 1 to 512 bytes, no control characters
---@field retry_after number?         seconds, above 0: when the same may be allowed; rounded up in `Retry-After`

---@class tg.Drop
---@field drop string                 shown to the publisher: 1 to 512 bytes, no control characters

---@class tg.Stored
---@field stored 200|201|202|204

---@class tg.Frame
---@field data any                    a string, or a value to encode as JSON
---@field event string?               one line, at most 255 bytes; none: the event's type

---@class tg.Publication              a copy, to change and return; reading or writing an unknown field raises
---@field topic string
---@field type string?
---@field raw string                  the data
---@field data any                    what `raw` says, as tg.Event has it: decoded when it is read, and read-only. To change data: pub.raw = json.encode(...). Do not return it
---@field attrs table<string,tg.Scalar>?
---@field key string?                 idempotency key; further events made of one get '#2', '#3' ... appended (long ones are cut for it)
---@field expires (number|string)?    Unix seconds from which on it is not delivered, at most ten years ahead; nil: never. May be set to "2026-11-30T12:00:00Z", too
---@field ttl number?                 the same in seconds from now. Of the two, the one that was set last counts; a table of your own has one of them
---@field source string?              "http"

---@class tg.Setup
---@field version string              the first 12 digits of the SHA-256 of all files of this policy
---@field previous string?            of the current policy, which it will replace; nil at the start

---@class tg.Disconnect
---@field reason string               e.g. "client-closed", "lagged"; the close reasons of the log
---@field seconds number              the stream was open
---@field delivered integer           events

-- One condition over the event and params, compiled when the policy is loaded; Lua does not run for it.
--   [[ starts_with(attrs.cell, $cell) and attrs.severity >= $min ]]
-- Values: strings, numbers, true, false, $name (params.name), id, topic, type, time, expires, key, attrs.x,
-- data.a.b, data.list[1], topic_seg(n), tonumber(x), distance_km(lat1, lon1, lat2, lon2). Conditions:
-- == ~= < <= > >=, and, or, not, parentheses, has(x), one_of(x, ...), starts_with(s, p), ends_with(s, p),
-- contains(list, x), cidr(ip, network), in_set(x, "name of Policy.sets"), fits_template(s, "/books/{id}"),
-- fits_url_pattern(s, "/books/:id"). A comparison with a missing field, or of
-- types that do not fit, is false.
---@alias tg.FilterText string

-- A second result, a text, is for people: `tidegate explain` shows it as the reason. Delivery ignores it.
---@alias tg.FilterFn fun(ev: tg.Event, params: table): boolean, string?

-- Rules for the JSON text of the data, applied without Lua; bytes that no rule is about stay as they are.
-- A path is names with points between: "customer.ssn". "*" is every member or element; a name also looks
-- into the elements of an array on its way: "items.price". So does "*", but not in keep.
-- "\\." and "\\*" are the characters. All of equal names are meant. Where there are paths, data that is not
-- JSON is not delivered; {} is the data as it is.
---@class tg.FormatSpec
---@field drop string[]?              paths to leave out
---@field keep string[]?              paths to keep: all else is left out; not together with drop
---@field mask table<string,tg.Scalar>?  path -> what stands there instead
---@field hash string[]?              paths of values that become 32 hexadecimal digits: the first half of HMAC-SHA-256
---@field hash_key tg.Secret|string|nil  16 to 256 bytes; wanted with hash
---@field round table<string,integer>?  path -> digits behind the point of a number, 0 to 15; reaches the elements of arrays, as hash and cut do
---@field cut table<string,integer>?  path -> characters of a text that stay; what hash, round and cut are not about becomes null
---@field rename table<string,string>?  path -> the new name of that member; other rules match it by the old one
---@field set table<string,tg.Scalar>?  name -> the value of that member of the object that the data is; "$role" is params.role, "$$x" the text "$x"
---@field event string?               as in tg.Frame

---@alias tg.FormatFn fun(ev: tg.Event, params: table): tg.Frame|string|nil

-- authenticate, subscribe and publish return a table (granted), `tg.deny(status, reason)` (denied: the
-- same request will be denied again), or `nil, "why"` (temporarily refused: the client tries again; the
-- text goes to the log). Filters and formats run once for all connections with an equal subscription,
-- so they may use only the event and params: os.time(), os.date() and math.random() raise an error.
-- Values that in_set(x, "name") of filter texts looks for x in: those that a query answers, loaded by the broker before
-- the policy takes effect, and again in the background. When a load fails the last values stay, until they are older than
-- `stale`: then filters that ask the set let nothing through.
---@class tg.Set
---@field query string                a key of Policy.queries; without arguments, it answers one column
---@field every integer               seconds from one load to the next, or up to a tenth fewer
---@field stale integer               seconds; at least twice `every`

---@class tg.Policy
---@field api 1
---@field version string?             a label, at most 64 bytes
---@field authenticate (async fun(req: tg.Request): tg.Identity?, tg.Deny|string|nil)?  may be missing only where the configuration says auth = "open"
---@field subscribe async fun(req: tg.Request, who: tg.Identity): tg.Subscription?, tg.Deny|tg.Stored|string|nil
---@field publish (async fun(pub: tg.Publication, who: tg.Identity): tg.Publication|tg.Publication[]|nil, tg.Deny|tg.Drop|string|nil)?  missing: no client may publish
---@field queries table<string,string>?  look-ups for db.query: SQL with $1, $2 ...; one SELECT, WITH, VALUES or TABLE each
---@field sets table<string,tg.Set>?  at most 64
---@field filters table<string,tg.FilterText|tg.FilterFn>?  an error counts as false
---@field formats table<string,tg.FormatSpec|tg.FormatFn>?  nil leaves the event out, and so does an error
---@field observe tg.Observe[]?       at most 32
---@field disconnect (async fun(who: tg.Identity, info: tg.Disconnect))?
---@field setup (async fun(cfg: tg.Setup))?  once, before the policy takes effect, for at most a minute; after an error it does not
---@field reload (fun(previous: string): "resubscribe"|"keep"|"reconnect")?  when the policy is about to take effect: run subscribe again for open streams (the default), leave them alone, or let them reconnect

-- Runs on every worker of every broker for each event of these topics, in the order of the log, whether it came by
-- HTTP or by an INSERT. It cannot wait, and answers nothing: it calls tg.ask_again, tg.end_streams and cache.forget, and may
-- set locals of the policy. What it orders takes effect before any later event is delivered. Where it fails, all streams
-- with tags are asked about again.
---@class tg.Observe
---@field topics string[]             1 to 32 names or patterns
---@field run fun(ev: tg.Event)

tg = {}

---In observe only: `subscribe` is asked again about all open streams with this tag. They are sent no event until it has
---answered; a denial ends them with `revoked`.
---@param tag string
function tg.ask_again(tag) end

---In observe only: ends all open streams with this tag. Their clients are sent `revoked` with the reason, reconnect, and are
---judged anew.
---@param tag string
---@param reason string               1 to 256 bytes
function tg.end_streams(tag, reason) end

---Refuses. Raises when the status or the reason is not one that can be sent.
---@param status 204|400|401|403|404|409|410|413|422|429  204: there is nothing more to come; the client stops (a publish gets 403)
---@param reason string               shown to the client
---@param options { retry_after: number? }?  seconds, as tg.rate answers them
---@return nil, tg.Deny
function tg.deny(status, reason, options) end

---@class tg.RateOptions
---@field per_s number                above 0, up to 1,000,000
---@field burst integer?              so many at once, 1 to 1,000,000; none: as many as in a second, one at least. burst / per_s is at most seven days

---Takes one token of the bucket of that name and key: true; or false, and the seconds until there is one. Buckets are the
---broker's, for all its workers: reloads of the policy change nothing. At most policy.rate_keys are kept; one
---that is full again makes room, and where there is none a new key gets false.
---
---    local ok, wait = tg.rate("publish", who.sub, { per_s = 10, burst = 20 })
---    if not ok then return tg.deny(429, "too many publishes", { retry_after = wait }) end
---
---For authenticate and publish. `subscribe` runs again when the policy is reloaded, and takes a token then, too. In a
---dry run it answers true and takes nothing. Raises for wrong options, in filters and formats, and while the file is loaded.
---@param name string                 1 to 64 bytes
---@param key string|integer          1 to 1024 bytes
---@param options tg.RateOptions
---@return boolean ok, number? wait
function tg.rate(name, key, options) end

---Drops an event: publish returns it, and that event is not stored. The publisher gets 200 (201 where others of its batch
---are stored) and `{"dropped": why}` in the place of the id. Raises when the text is not one that can be sent.
---@param why string                  shown to the publisher: 1 to 512 bytes, no control characters
---@return nil, tg.Drop
function tg.drop(why) end

---In `subscribe` of a POST that is answered with a stream (`req.published`): no stream is wanted. The event is stored, and
---the answer has this status and no body. When `subscribe` runs again it is an error. Raises for another status.
---@param status 200|201|202|204
---@return nil, tg.Stored
function tg.stored(status) end

---@class tg.JwtOptions
---@field keys string                 a name of `keys` in the configuration
---@field alg string[]                the algorithms to accept, such as { "RS256", "EdDSA" }
---@field iss string?                 the token must be of this issuer
---@field aud string|string[]|false|nil  the token must name one of these; nil: it must not name an audience; false: any audience
---@field typ string?                 the token must be of this type; none: "JWT", "at+jwt", or without a type
---@field leeway integer?             seconds, 0 to 300, that clocks may differ: of exp and nbf; none: 0
---@field exp false?                  false: a token without an expiry will do (one that has it obeys it)

---Verifies a JSON Web Token: HS256, HS384, HS512, RS*, PS*, ES256, ES384, EdDSA. Answers its claims, or nil and
---why not; the text is fit for the client:
---
---    local c, err = tg.jwt(req.bearer, { keys = "main", alg = { "RS256" }, iss = "https://id.example", aud = "sse" })
---    if not c then return tg.deny(401, err) end
---
---If the token cannot be verified now (the keys could not be fetched yet), it does not return: the hook ends with a
---temporary refusal. Raises an error for wrong options, and in filters and formats. Takes 5 to 100 us (ES384: 800), for
---a cached token 4.
---@param token string?
---@param options tg.JwtOptions
---@return table<string,any>? claims, string? err
function tg.jwt(token, options) end

---@class tg.SettingOptions
---@field [1] "string"|"secret"|"integer"|"number"|"boolean"|"list"  a list is one of texts
---@field default any?                where the configuration says nothing; none: it must say something. Not for secrets
---@field optional boolean?           true: where the configuration says nothing, nil
---@field min number?                 of a string or secret: bytes (none: 1); of a list: texts
---@field max number?
---@field one_of string[]?            of a string, or of each text of a list

-- A value that can be used and does not show. As a key of tg.hmac, in tg.equal, and as a header or body of http.get and
-- http.post it is its bytes. `..` makes a longer secret ("Bearer " .. s). tostring(s) is "<secret NAME>"; everything else
-- that wants a string, json.encode among it, raises. It is equal to no string: use tg.equal.
---@class tg.Secret
---@operator concat(string): tg.Secret

---What the configuration says to this policy (`policy.settings`). Declare it at the top of the file, or of a module; the
---values are there from then on:
---
---    local settings = tg.settings { issuer = "string", hook = "secret", streams = { "integer", default = 5, min = 1 } }
---    P.filters = { big = "attrs.size >= " .. settings.least }
---
---tg.settings.NAME reads them anywhere, also in filters and formats. Read-only; a name that is not declared raises. Where a
---value is missing or is not what was declared, the policy does not load, nor does it where the configuration sets what is
---not declared. A text that holds a number, true, false or a list with commas will do as one: those of env() are texts. The
---values are part of the policy's version.
---@type table<string,any>|fun(declared: table<string,string|tg.SettingOptions>): table<string,any>
tg.settings = nil

---Are two texts equal? In constant time: use it where one of them is a secret or a signature. nil is equal to nothing.
---Takes 0.1 us.
---@param a string|tg.Secret|nil
---@param b string|tg.Secret|nil
---@return boolean
function tg.equal(a, b) end

---@class tg.HmacOptions
---@field alg ("HS256"|"HS384"|"HS512")?  none: HS256, which is HMAC with SHA-256
---@field as ("hex"|"base64"|"base64url"|"bytes")?  none: hex

---The signature of a text (RFC 2104). Compare it with tg.equal. Takes 1.5 us, and 0.6 for each KiB.
---@param key string|tg.Secret
---@param text string                 at most 1 MiB
---@param options tg.HmacOptions?
---@return string
function tg.hmac(key, text, options) end

---Joins segments, each taken literally; raises when one is empty or holds '/', '*' or a control
---character, or the topic gets longer than 255 bytes. Add wildcards outside: tg.topic("a", x) .. "/**"
---Where publish fails by that, and the segment is a text of the event (its topic, type, key, an attribute, or a JSON
---string of its data), the publisher gets 400; of anything else it is an error of the policy, and 503.
---@param ... string
---@return string
function tg.topic(...) end

---May the value be one literal segment of a topic? False for anything but a string.
---@param segment any
---@return boolean
function tg.topic_ok(segment) end

---Any text as one literal segment of a topic: `%`, `/`, `*` and control characters as %25, %2F, %2A ... For texts that
---tg.topic refuses, such as URLs; in PostgreSQL tidegate.segment() does the same.
---@param text any
---@return string?                    nil: no text, empty, not UTF-8, or longer than 255 bytes as a segment
function tg.segment(text) end

---What tg.segment was given.
---@param segment any
---@return string?                    nil: no text, empty, or a `%` without two hexadecimal digits
function tg.unsegment(segment) end

---May the text have been made of the URI template (RFC 6570), or of one of a list? "https://a.example/books/{id}" fits what
---has in place of {id} what such a variable writes, {/path*} and {?q} what those write. A text fits itself, whatever it is.
---Templates with prefixes ({x:3}), of more than 1024 bytes or 32 expressions fit nothing else.
---@param text any                    false: no text, or longer than 1024 bytes
---@param template string|string[]    at most 1000
---@return boolean
function tg.fits_template(text, template) end

---Is the text a URL that the URL pattern (urlpattern.spec.whatwg.org) means, or one of a list? "https://a.example/books/:id",
---"https://*.a.example/books/*", "/books/:id". What stands behind `?` and `#` is no matter. URLs are compared as they are: one
---that browsers would write otherwise ("..", "\\", a user, capitals in the host) fits nothing, nor does a pattern with groups,
---regular expressions or modifiers (`:id?`).
---@param text any                    false: no text, or longer than 1024 bytes
---@param pattern string|string[]     at most 1000
---@return boolean
function tg.fits_url_pattern(text, pattern) end

---Is it a pattern that tg.fits_url_pattern knows? False for anything but a string.
---@param pattern any
---@return boolean
function tg.url_pattern_ok(pattern) end

---Is the value a topic name or pattern a subscription may have? False for anything but a string.
---@param pattern any
---@return boolean
function tg.pattern_ok(pattern) end

---Geohash cell of a place; raises on a latitude or longitude out of range.
---@param lat number                  degrees, -90 to 90
---@param lon number                  degrees, -180 to 180
---@param length integer              characters, 1 to 12; 4 is about 39 x 20 km
---@return string
function tg.geohash(lat, lon, length) end

db = {}

---Asks the database of the configuration (section `database`) a query that Policy.queries declares.
---Parameters are sent separately from the text: there is nothing to escape and nothing to inject. nil is
---NULL. Rows hold integers, numbers, booleans and strings by column name; NULL is nil, and types that
---Lua does not have (numeric, timestamps, uuid, json) are the database's text. Raises an error for an
---unknown name or a wrong number of parameters. If the database is down, slow or rejects the query, it
---returns nil and the reason: return both, and the client is temporarily refused.
---@async
---@param name string                 a key of Policy.queries
---@param ... tg.Scalar|nil           $1, $2 ...
---@return table<string,tg.Scalar>[]? rows, string? err
function db.query(name, ...) end

http = {}

---@class tg.HttpOptions
---@field path (string|tg.Scalar[])?  after the target's URL: text that is encoded already, "/users/7", or segments to be encoded, { "users", who.sub }. "." and ".." are refused
---@field query table<string,tg.Scalar>?  at most 32, encoded here
---@field headers table<string,tg.Scalar|tg.Secret>?  beside those of the target
---@field timeout_ms integer?         less than the target's

---@class tg.HttpPostOptions: tg.HttpOptions
---@field body string|tg.Secret|nil
---@field json any                    instead of a body: sent as JSON

---@class tg.HttpResponse
---@field status integer              200 to 599; redirects are not followed
---@field body string
---@field headers table<string,string>  lower-case names; of equal names all, joined by ", "
---@field json any                    the body decoded, where the Content-Type says JSON and it is

---Asks a server of the configuration (`http_targets`). Any complete answer is a response; nil and why
---for everything else: no connection, no answer in time, too large, not to be trusted. Raises on an
---unknown target and on options that are none.
---@async
---@param target string
---@param opts tg.HttpOptions?
---@return tg.HttpResponse? response, string? err
function http.get(target, opts) end

---The same with POST. A connection that the server closed meanwhile makes it be sent again.
---@async
---@param target string
---@param opts tg.HttpPostOptions?
---@return tg.HttpResponse? response, string? err
function http.post(target, opts) end

json = {}

---JSON null inside decoded values; not false, not nil.
---@type lightuserdata
json.null = nil

---Text of a value: keys sorted, integers exact. A table with keys 1..n is an array, an empty one an
---object unless json.array() marked it. Raises on functions, mixed keys, NaN, cycles, depth over 64.
---@param value any
---@return string
function json.encode(value) end

---@param text string                 at most 4 MiB
---@return any value, string? err     nil and why, where it is not JSON, has duplicate keys, or is over 64 levels deep
function json.decode(text) end

---Marks a table as an array, so that an empty one is encoded as [].
---@generic T: table
---@param list T?                     none: a new one
---@return T
function json.array(list) end

log = {}

---One line in the broker's log: a text, a table of fields (names of letters, digits and _, at most
---16, scalars), or both. Do not log secrets.
---@param text string|table<string,tg.Scalar>
---@param fields table<string,tg.Scalar>?
function log.info(text, fields) end

---@param text string|table<string,tg.Scalar>
---@param fields table<string,tg.Scalar>?
function log.warn(text, fields) end

---The same as log.info, with all arguments as one text.
---@param ... any
function print(...) end

cache = {}

---@class tg.CacheTimes               seconds, up to 30 days
---@field ttl number                  how long a value is good; a little less, so that values do not expire together
---@field neg_ttl number?             how long `false` is; none: ttl, at most 10
---@field stale number?               while fn fails: how much older than ttl the value may be that is used instead; none: 0

---The value of that key: kept, or what fn returns. Hooks that ask for a key while fn runs for it wait
---for that one run, whatever connection or policy they belong to. Values are kept as JSON
---(json.encode): every caller gets a copy. Keys are shared by all policies of the process and survive
---a reload: let them begin with what the value depends on.
---fn may wait. It returns the value; false ("there is none") is kept, too; nil and why is not: cache.fetch
---returns both to all who wait, or an old value. An error it raises is raised in the hook that ran
---it; the others get nil and its text.
---@async
---@generic T
---@param key string                  1 to 1024 bytes
---@param ttl number|tg.CacheTimes
---@param fn fun(): T?, string?
---@return T? value, string? err
function cache.fetch(key, ttl, fn) end

---What is kept under that key no longer holds: the next cache.fetch runs its function. A function that runs for the key
---already counts as of before: what it returns is not kept. Raises in filters and formats.
---@param key string                  1 to 1024 bytes
function cache.forget(key) end

---Waits. The hook goes on that much later, or not at all if it takes too long altogether.
---@async
---@param seconds number              0 to 86400
function sleep(seconds) end
