---@meta tidegate.test
-- What specs of policies can use, for people and for the Lua language server: `local t = require "tidegate.test"`, where
-- `tidegate test` runs them with busted. Nothing here runs; a spec holds the names against those there are. The comments in
-- scripts/lib/test.lua say more; pages: scripts/TESTING.md.

local t = {}

-- A database or target that is away: `db = t.down`, or a single query, `db = { entitled = t.down }`, or a set.
t.down = nil ---@type tg.test.Down
-- As in policies.
t.json = nil ---@type { encode: (fun(value: any): string), decode: (fun(text: string): any), array: (fun(list: any[]): any[]), null: any }

---@class tg.test.Down
---@class tg.test.Key

---@alias tg.test.Algorithm "HS256"|"HS384"|"HS512"|"RS256"|"RS384"|"RS512"|"PS256"|"PS384"|"PS512"|"ES256"|"ES384"|"EdDSA"

-- A key for the option `keys` and p:token(): made for this run, and the same one whenever the same is asked for.
---@param alg tg.test.Algorithm
---@param kid string?
---@return tg.test.Key
function t.key(alg, kid) end

-- A key for HS256 that is this secret.
---@param secret string 32 to 1024 bytes
---@return tg.test.Key
function t.hs256(secret) end

-- A list of tables, as the database would answer; or nil and an error.
---@alias tg.test.Rows table<string,tg.Scalar>[]
---@alias tg.test.Response { status: integer, body: string?, headers: table<string,string>?, json: any }

---@class tg.test.Options
---@field now number?                 Unix seconds; none: the machine's clock
---@field db (tg.test.Down|table<string,tg.test.Down|tg.test.Rows|fun(...): tg.test.Rows?, string?>)?  what each query answers
---@field http (tg.test.Down|table<string,tg.test.Down|tg.test.Response|fun(options: table, method: string): tg.test.Response?, string?>)?  what each target answers
---@field sets (tg.test.Down|table<string,tg.test.Down|tg.Scalar[]|fun(): tg.Scalar[]?, string?>)?  what is in each set that filter texts ask with in_set()
---@field keys table<string,tg.test.Key|tg.test.Key[]>?  key sets, instead of the configuration's
---@field auth "open"?                the policy may do without `authenticate`
---@field settings table<string,tg.Scalar|string[]>?  instead of the configuration's policy.settings; a plain text also for a secret
---@field path string[]?              directories, relative to the spec; instead of the configuration's policy.path
---@field routes table[]?             as http.routes; instead of the configuration's

-- Loads a policy as the broker does. Raises what `tidegate check` would say.
---@param file string a relative one starts at the spec that calls
---@param options tg.test.Options?
---@return tg.test.Policy
function t.policy(file, options) end

---@class tg.test.Event
---@field topic string
---@field type string?
---@field data any                    a text, or a value that becomes JSON
---@field attrs table<string,tg.Scalar>?
---@field key string?
---@field expires (number|string)?    a time from which on it is not delivered: Unix seconds, or ISO 8601
---@field ttl number?                 the same, in seconds from now

---@class tg.test.Request
---@field query table<string,tg.Scalar|tg.Scalar[]>?
---@field headers table<string,string>?
---@field cookies table<string,string>?
---@field bearer string?
---@field ip string?
---@field tls table?                  what the policy sees as request.tls; what is left out has defaults

---@class tg.test.Connect: tg.test.Request
---@field topics string[]?
---@field last_event_id string?
---@field path string?                of a route; none: http.events_path

---@class tg.test.Post: tg.test.Request
---@field topic string?
---@field type string?
---@field data any
---@field attrs table<string,tg.Scalar>?
---@field key string?
---@field expires (number|string)?    as of an event
---@field ttl number?
---@field raw string?                 in place of these: the body as other services send it
---@field path string?                of a route
---@field form table<string,tg.Scalar|tg.Scalar[]>?  the body is a form

-- The events, and the options of their request.
---@class tg.test.Batch: tg.test.Request
---@field [integer] tg.test.Event

---@class tg.test.Refused
---@field kind "granted"|"denied"|"transient"|"dropped"
---@field status integer
---@field headers table<string,string> lower-case names
---@field reason string?              of a denial and of a temporary refusal
---@field retry_after integer?        of a denial

---@class tg.test.Answer: tg.test.Refused
---@field id integer?                 of the event that was stored
---@field body string?
---@field dropped string?             why the policy has dropped it
---@field answers { id: integer?, dropped: string?, duplicate: boolean? }[]?  of p:batch()

---@class tg.test.Change
---@field client tg.test.Client?
---@field kind "same"|"changed"|"ended"|"unanswered"
---@field fields string[]             those of `after` that differ
---@field before table?               a subscription
---@field after table?
---@field reason string?              what the client was told

---@class tg.test.Policy
local Policy = {}

-- The same file again, with other options; those not given stay.
---@param options tg.test.Options
---@return tg.test.Policy
function Policy:with(options) end

-- A token with these claims, good for an hour unless it says `exp`; false leaves a claim out.
---@param claims table
---@param options (string|{ set: string?, key: tg.test.Key?, alg: tg.test.Algorithm?, header: table? })? the name of a key set, or what makes a bad token
---@return string
function Policy:token(claims, options) end

-- From now on it is that time: streams end whose identity has expired, cached values and sets age.
---@param now number Unix seconds
---@return tg.test.Change[]
function Policy:at(now) end

-- Has the policy asked again about the stream of a client, or about all.
---@param client tg.test.Client
---@param options { now: number?, db: any, http: any, sets: any, only_expired: boolean? }?
---@return tg.test.Change
---@overload fun(self: tg.test.Policy, options?: table): tg.test.Change[]
function Policy:resubscribe(client, options) end

-- Loads the policy again, as `tidegate reload` does it.
---@param options (string|{ file: string?, settings: table?, path: string[]?, db: any, http: any, sets: any })? the next version's file, or options
---@return { outcome: "reloaded"|"refused", error: string?, mode: ("resubscribe"|"keep"|"reconnect")?, tried: table?, version: string?, previous: string?, streams: tg.test.Change[] }
function Policy:reload(options) end

-- What `observe` does for an event; nothing of it reaches a stream.
---@param event tg.test.Event
---@return { result: "observed"|"not-observed"|"failed", error: string?, ask_again: string[], end_streams: { tag: string, reason: string }[], forgotten: integer }
function Policy:observe(event) end

-- How many errors each hook has had, and how many of them because it used up its CPU time.
---@return table<string,integer> errors
---@return table<string,integer> overdue
function Policy:errors() end

function Policy:close() end

-- A client that subscribes, or with the header Accept = "application/json" asks for a page of history.
---@param options tg.test.Connect?
---@return tg.test.Client
function Policy:connect(options) end

-- A client that publishes, through the hook `publish`.
---@param options tg.test.Post
---@return tg.test.Answer
function Policy:post(options) end

-- A client that publishes several events in one request.
---@param options tg.test.Batch
---@return tg.test.Answer
function Policy:batch(options) end

-- An event that the application stores itself: no hook `publish` is asked.
---@param event tg.test.Event
function Policy:publish(event) end

---@class tg.test.Client: tg.test.Refused
---@field subscription table?         { id, topics, filter, format, params, expires, audience, quota, tags }
---@field page { events: table[], next: string, more: boolean, gap: table? }?  where a page of history was asked for
local Client = {}

-- Everything delivered so far, or on the page. Waits until nothing is in progress.
---@return { id: integer|string, type: string, data: any }[]
function Client:events() end

---@return integer[]
function Client:ids() end

-- The data of all events, decoded from JSON, or as the page has it.
---@return any[]
function Client:data() end

-- Has the broker ended the stream?
---@return boolean
function Client:closed() end

-- Goes away, as a browser does.
function Client:disconnect() end

---@class luassert
local luassert = {}

---@param client tg.test.Client|tg.test.Answer
function luassert.granted(client) end

---@param status integer
---@param client tg.test.Client|tg.test.Answer
function luassert.denied(status, client) end

-- A temporary refusal.
---@param client tg.test.Client|tg.test.Answer
function luassert.transient(client) end

-- No hook failed, or used up its CPU time.
---@param policy tg.test.Policy
function luassert.faultless(policy) end

return t
