--- Unit tests of policies: `local t = require "tidegate.test"` in specs that `tidegate test DIR` runs with busted.
--- A policy is loaded as the broker loads it, with a whole broker around it: what a spec sees is what clients get.
--- The event store is memory, the clock can be set, `db` and `http` answer what the spec says; no port is opened.
---
---   local t = require "tidegate.test"
---   describe("tenant policy", function()
---     local p = t.policy("tenant.lua", {
---       now = 1700000000, keys = { main = t.key "ES256" }, db = { entitled = function(tenant) return { ... } end },
---     })
---     it("wants a token", function()
---       assert.denied(401, p:connect { topics = { "orders" } })
---       assert.granted(p:connect { topics = { "orders" }, bearer = p:token { sub = "ann", tenant = "acme" } })
---     end)
---   end)
local native, request_text = require "tidegate.test.native", require "tidegate.test.request"
local changes, tokens = require "tidegate.test.changes", require "tidegate.test.tokens"
local eval, times, answers = require "tidegate.eval", require "tidegate.test.bench", require "tidegate.test.answers"
local assert, say = require "luassert", require "say"
local json = native.json

local t = { json = json }
local Policy, Client, Answer = {}, {}, {}
Policy.__index, Client.__index, Answer.__index = Policy, Client, Answer

local PATIENCE_S = 5 -- of real time, for one answer

--- A database or target that is away: `db = t.down`, or a single query, `db = { entitled = t.down }`, or a set.
t.down = answers.down

local function check_keys(options, known, level)
  for key in pairs(options) do
    if not known[key] then
      local names = {}
      for name in pairs(known) do
        names[#names + 1] = name
      end
      table.sort(names)
      error(("unknown option '%s'; there are %s"):format(tostring(key), table.concat(names, ", ")), level + 1)
    end
  end
end

--- Keys for `keys` and p:token(), of every algorithm that tg.jwt verifies: see scripts/lib/test_tokens.lua.
t.key, t.hs256 = tokens.key, tokens.hs256

-- what policies say ------------------------------------------------------------------------------

-- Of all policies that are not collected: lists of what went wrong in their hooks, and what they refused temporarily,
-- in the test that is running. The broker's log would show it; here it is for those who ask why a test has failed.
local said = setmetatable({}, { __mode = "k" })

-- "subscribe: p.lua:3: what"
local function failure_text(failure)
  return failure.hook .. ": " .. eval.shown(failure)
end

-- The newest of what was said since there were `n`.
local function reason_since(failures, n)
  return #failures > n and failure_text(failures[#failures]) or nil
end

local function forget()
  for failures in pairs(said) do
    for i = #failures, 1, -1 do
      failures[i] = nil
    end
  end
  return nil, true -- the next that has subscribed, too
end

local function tell(_, _, status)
  times.measure()
  local known = {}
  for failures in pairs(status ~= "success" and said or {}) do
    for _, failure in ipairs(failures) do
      local text = failure_text(failure)
      if not known[text] then
        known[text] = true
        io.stderr:write("policy: ", eval.plain(text), "\n")
      end
    end
  end
  return nil, true
end

local found, busted = pcall(require, "busted")
if found and busted.subscribe then
  busted.subscribe({ "test", "start" }, forget)
  busted.subscribe({ "test", "end" }, tell)
end

-- policies ---------------------------------------------------------------------------------------

local policy_options = {
  now = true, db = true, http = true, sets = true, keys = true, auth = true, settings = true, path = true,
  routes = true,
}

-- Settings as the broker's C half takes them: a list of { name, type, value }, sorted by name.
local function setting_list(settings, level)
  local list = settings and {}
  for name, value in pairs(settings or {}) do
    local kind = math.type(value) or type(value)
    kind = ({ float = "number", table = "list" })[kind] or kind
    if type(name) ~= "string" or not ({ string = 1, integer = 1, number = 1, boolean = 1, list = 1 })[kind] then
      error(("settings.%s: a text, number, boolean or list of texts was expected"):format(tostring(name)), level + 1)
    end
    list[#list + 1] = { name, kind, kind == "list" and value or tostring(value) }
  end
  table.sort(list or {}, function(a, b) return a[1] < b[1] end)
  return list
end

local event_options = {
  topic = true, type = true, data = true, attrs = true, key = true, expires = true, ttl = true,
}

local function event_fields(event, level)
  check_keys(event, event_options, level + 1)
  local data = event.data
  return {
    topic = event.topic, type = event.type, key = event.key, expires = event.expires, ttl = event.ttl,
    data = type(data) == "string" and data or json.encode(data == nil and json.null or data),
    attrs = event.attrs and json.encode(event.attrs),
  }
end

local function decoded(stream)
  stream.params = stream.params and json.decode(stream.params) or {}
  return stream
end

-- A path that a spec names: relative to that spec, which called at `level`.
local function absolute(path, level)
  if path:sub(1, 1) == "/" then
    return path
  end
  return (debug.getinfo(level, "S").source:match "^@(.*)/" or ".") .. "/" .. path
end

-- A new table: `options`, and of `before` what they leave out. Paths are relative to the spec that called at `level`.
local function taken(options, before, level)
  local all = {}
  for key, value in pairs(before) do
    all[key] = value
  end
  for key, value in pairs(options or {}) do
    all[key] = value
  end
  if options and options.path then
    if type(options.path) ~= "table" then
      error("path: a list of directories was expected", level)
    end
    all.path = {}
    for i, path in ipairs(options.path) do
      all.path[i] = absolute(path, level + 1)
    end
  end
  return all
end

--- Loads the policy; a relative `file` starts at the spec that calls. Raises what `tidegate check` would say.
--- options: now (Unix seconds; none: the machine's clock), db ({ query = rows | function(...) -> rows | nil, err }),
--- http ({ target = { status =, body =, headers = } or { status =, json = } | function(options, method) -> ... }),
--- sets ({ name = list of values | function() -> list | nil, err }: what in_set() of filter texts finds),
--- keys ({ set = t.key "ES256" or a list },
--- instead of the configuration's), auth ("open": the policy may do without `authenticate`), settings
--- ({ name = value }, a plain text also for a secret; instead of the configuration's policy.settings), path (a list of
--- directories, relative to the spec, too; instead of the configuration's policy.path), routes (a list as http.routes;
--- instead of the configuration's).
function t.policy(file, options)
  check_keys(options or {}, policy_options, 2)
  return (Policy.open(absolute(file, 3), taken(options, {}, 3), 3)) -- no tail call: errors point at the caller
end

function Policy.open(file, options, level)
  local now = options.now and math.floor(options.now * 1000) or 0
  local keys = tokens.lists(options.keys, level + 1)
  if options.auth ~= nil and options.auth ~= "open" then
    error("auth: \"open\" was expected, or nothing", level)
  end
  local failures = {}
  local bench, err = native.open(file, now, answers.responder(options), tokens.sets(keys), options.auth == "open",
    failures, setting_list(options.settings, level), answers.targets(options.http), options.path, options.routes)
  if not bench then
    error(err, level)
  end
  answers.check(bench, options, "", level)
  said[failures] = true
  return setmetatable({
    file = file, options = options, keys = keys, bench = bench, failures = failures, now = options.now,
    seen = {}, clients = setmetatable({}, { __mode = "v" }), -- [id of a stream]: one that is known; who has it
  }, Policy)
end

--- The same file again, with other options; those not given stay.
function Policy:with(options)
  check_keys(options, policy_options, 2)
  return (Policy.open(self.file, taken(options, self.options, 3), 3))
end

local token_options = { set = true, key = true, alg = true, header = true }

--- A token with these claims, signed with the first key of the only key set. Without `exp` it is good for an hour of
--- the policy's time; false leaves a claim out. The second argument is the name of another key set, or options, which
--- make bad tokens, too: set; key (signs instead, in the set or not: t.key("ES256", "stranger")); alg (another one that
--- this kind of key can sign with); header (more of it: { kid = "x", typ = false }; an `alg` there is only said).
function Policy:token(claims, options)
  options = type(options) == "string" and { set = options } or options or {}
  check_keys(options, token_options, 2)
  local name = options.set or next(self.keys)
  local key = options.key or self.keys[name] and self.keys[name][1]
  if not options.set and not options.key and name and next(self.keys, name) then
    error("there are several key sets: p:token(claims, { set = \"...\" })", 2)
  elseif not tokens.is_key(key) then
    error("no such key: t.policy(file, { keys = { main = t.key \"ES256\" } })", 2)
  end
  return (tokens.sign(key, claims, options, math.floor(self.now or os.time()) + 3600, 3))
end

--- From now on it is that time: Unix seconds. Streams end whose identity has expired; `subscribe` has been asked again
--- about those whose grant has, and their clients' `subscription` is what it says now. Values of cache.fetch age,
--- and so do sets: they are loaded again when that is due, and without values when they are stale.
--- Returns what became of the streams: see p:resubscribe.
function Policy:at(now)
  return self:resubscribe { now = now, only_expired = true }
end

-- [id of a stream]: its subscription.
local function subscriptions(p)
  local all = {}
  for _, stream in ipairs(p.bench:connections()) do
    all[stream.id] = decoded(stream)
  end
  return all
end

-- Runs `act`, lets the policy be asked again about open streams where that follows, and tells what became of them.
local function changed(p, act)
  local before = subscriptions(p)
  act()
  p:wait(function()
    p.bench:turn()
    return not p.bench:resubscribing() and not p.bench:loading()
  end, "an answer of subscribe about open streams, or of a set,")
  local after = subscriptions(p)
  for id, c in pairs(p.clients) do
    c.subscription = after[id] or c.subscription
  end
  return changes.of(p.clients, before, after)
end

local asking_again = { now = true, db = true, http = true, sets = true, only_expired = true }

--- Has the policy asked again about the stream of a client, or all: what `POST /connections/resubscribe` does. options:
--- from now on it is that time (`now`), databases and servers answer that (`db`, `http`), and sets, which are loaded
--- anew, hold that (`sets`; those that are not named are as they were). The identity is the one that
--- `authenticate` granted: it belongs to the stream as long as that is open.
--- Returns, for a client, what became of its stream; without one a list of that, in the order the streams were
--- opened: { client, kind, fields (those of `after` that differ, sorted), before, after (subscriptions), reason }. kind
--- is "same", "changed", "ended" (reason: what the client was told, if anything), or "unanswered": the policy could
--- not say, so it is asked again later, and the stream keeps what it has until then.
function Policy:resubscribe(client, options)
  if getmetatable(client) ~= Client then
    client, options = nil, client
  end
  options = options or {}
  check_keys(options, asking_again, 2)
  answers.check(self.bench, options, "", 2)
  self.options.db, self.options.http = options.db or self.options.db, options.http or self.options.http
  self.options.sets = answers.with_sets(self.options.sets, options.sets)
  local id = client and client.subscription and client.subscription.id
  if client and (not id or client.policy ~= self or self.clients[id] ~= client) then
    error("the client has no stream of this policy", 2)
  end
  local list = changed(self, function()
    if options.sets then
      self.bench:load_sets()
    end
    if options.now then
      self.now = options.now
      self.bench:set_time(math.floor(options.now * 1000))
    end
    if not options.only_expired then
      self.bench:ask_again(id)
    end
  end)
  if not client then
    return list
  end
  for _, change in ipairs(list) do
    if change.client == client then
      return change
    end
  end
  error("the stream of this client has ended already", 2)
end

local reload_options = { file = true, settings = true, path = true, db = true, http = true, sets = true }

--- Loads the policy again, as `tidegate reload` does it: tried on what happened lately, set up, put in force. What C
--- keeps (values of `cache`, quotas, rates) is still there; what the file keeps in its locals is not.
--- The argument is another file (the next version), or options: file, settings, path, and db, http, sets, which answer
--- from now on. What is not given stays.
--- Returns { outcome = "reloaded" or "refused" (`error` says why; all is as before), mode (what `reload` returned:
--- "resubscribe", "keep", "reconnect"), tried = { connects, streams, judgements, errors }, version, previous,
--- streams = { ... } as p:resubscribe returns it }.
function Policy:reload(options)
  options = type(options) == "string" and { file = options } or options or {}
  check_keys(options, reload_options, 2)
  local all = taken(options, self.options, 3)
  local file = options.file and absolute(options.file, 3) or self.file
  local settings = setting_list(options.settings, 2)
  local report, err
  self.options.db, self.options.http, self.options.sets = all.db, all.http, all.sets
  local streams = changed(self, function()
    report, err = self.bench:load_again(file, settings, options.path and all.path)
  end)
  if not report then
    error(err, 2)
  end
  if report.outcome == "reloaded" then
    self.file, self.options.settings, self.options.path = file, all.settings, all.path
    answers.check(self.bench, options, "after the reload: ", 2)
  end
  report.streams = streams
  return report
end

--- What `observe` of the policy does for an event (as of p:publish); nothing of it reaches a stream, but keys of the
--- cache are forgotten. Returns { result = "observed", "not-observed" (it is of none of the topics) or "failed"
--- (`error` says why), ask_again = { tag, ... }, end_streams = { { tag, reason }, ... }, forgotten (how many keys it
--- named) }.
function Policy:observe(event)
  local fields = event_fields(event, 2)
  local result, err = self.bench:observe(fields)
  times.observed(self, fields)
  if not result then
    error(err, 2)
  end
  result.ask_again, result.end_streams = {}, {}
  for _, effect in ipairs(result.effects) do
    local list = result[effect.effect]
    list[#list + 1] = effect.effect == "ask_again" and effect.tag or { tag = effect.tag, reason = effect.reason }
  end
  result.effects = nil
  return result
end

--- How many errors each hook has had: { authenticate = 0, subscribe = 0, ... }; and, as a second table, how many of
--- them because the hook used up its CPU time.
function Policy:errors()
  return self.bench:errors()
end

function Policy:close()
  self.bench:close()
end

-- Turns the broker until `done()`; `what` is the name of that.
function Policy:wait(done, what)
  local stop = native.seconds() + PATIENCE_S
  while not done() do
    if native.seconds() > stop then
      error(("%s did not happen within %d s"):format(what, PATIENCE_S), 3)
    end
    self.bench:turn()
  end
end

-- requests ---------------------------------------------------------------------------------------

local request_options = {
  topics = true, query = true, headers = true, cookies = true, bearer = true, ip = true, last_event_id = true,
  tls = true, path = true,
}
local post_options = {
  topic = true, type = true, data = true, attrs = true, key = true, expires = true, ttl = true, raw = true,
  query = true, headers = true, cookies = true, bearer = true, ip = true, tls = true, path = true, form = true,
}

-- The answer's status and fields; what follows is the body.
local function take_head(c)
  local stop = c.received:find("\r\n\r\n", 1, true)
  if not stop then
    return false
  end
  c.status = tonumber(c.received:match "^HTTP/1%.1 (%d+)")
  c.headers = {}
  for name, value in c.received:sub(1, stop + 1):gmatch "\r\n([^:\r\n]+): *([^\r\n]*)" do
    c.headers[name:lower()] = value
  end
  c.received = c.received:sub(stop + 4)
  return true
end

-- Takes what has arrived. True: the broker has closed the connection.
local function receive(c)
  while true do
    local bytes = c.socket:read()
    if not bytes then
      c.ended = true
    end
    if not bytes or bytes == "" then
      return c.ended
    end
    c.received = c.received .. bytes
  end
end

local function exchange(p, class, request)
  local socket, err = p.bench:dial()
  if not socket then
    error(err, 3)
  end
  local c = setmetatable({ policy = p, socket = socket, received = "", ended = false }, class)
  local sent, before = 0, #p.failures
  p:wait(function()
    if sent < #request then
      sent = sent + (socket:write(request:sub(sent + 1)) or #request)
    end
    receive(c)
    return take_head(c) or c.ended
  end, "an answer")
  assert(c.status, "the broker closed the connection without an answer")
  c.why = reason_since(p.failures, before) -- of a temporary refusal, whose client is not told
  return c
end

-- What a page says: { events, next, more, gap }; of lines, the last of which is all but the events, too.
local function page_of(c)
  local media = c.headers["content-type"] or ""
  if media:find "^application/json" then
    return json.decode(c.body)
  elseif media:find "^application/x%-ndjson" then
    local lines = {}
    for line in c.body:gmatch "[^\n]+" do
      lines[#lines + 1] = json.decode(line)
    end
    local page = table.remove(lines)
    page.events = lines
    return page
  end
end

-- A complete answer: its JSON body says why it was refused.
local function read_body(c)
  local size = tonumber(c.headers["content-length"]) or 0
  c.policy:wait(function()
    return #c.received >= size or receive(c)
  end, "the rest of an answer")
  c.body = c.received:sub(1, size)
  local value = (c.headers["content-type"] or ""):find "json" and json.decode(c.body)
  c.json = type(value) == "table" and value or nil
  local told = c.json and c.json.detail
  c.reason = c.status == 503 and c.why or told or c.why
  c.retry_after = tonumber(c.headers["retry-after"])
  c.socket:close()
end

-- The broker's own view of a stream: its subscription. Nil: it has none (yet).
local function describe(c)
  for _, stream in ipairs(c.policy.bench:connections()) do
    if not c.policy.seen[stream.id] then
      c.policy.seen[stream.id] = true
      c.policy.clients[stream.id] = c
      return decoded(stream)
    end
  end
end

-- Of a client whose answer is a stream: which one, or why not.
local function take_stream(p, c, before)
  p:wait(function()
    c.subscription = describe(c)
    return c.subscription or receive(c)
  end, "a subscription")
  c.kind = c.subscription and "granted" or "transient"
  if c.kind == "transient" then -- the broker's own reasons are in a comment
    c.reason = reason_since(p.failures, before) or c.why or c.received:match "\n: ?([^\n]*) %(request [^\n]*%)\n"
  end
  times.subscribed(p, c.subscription)
  return c
end

--- A client that subscribes. options: topics (list), query, headers, cookies (tables; a value of query may be a list),
--- bearer, ip, last_event_id, path (of a route; none: http.events_path), and tls: what the policy sees as request.tls.
--- { client = { subject = "CN=a" } } is enough, the rest has defaults.
--- With headers = { Accept = "application/json" } (or "application/x-ndjson") it asks for a page of history: the client
--- has `page` ({ events, next, more, gap }) then, no `subscription`, and is gone; c:events(), c:ids() and c:data() are
--- about the events of the page.
--- The client has: kind ("granted", "denied", "transient"), status, headers, reason (of a temporary refusal: what the
--- broker's log says, "subscribe: p.lua:3: ...", or what the client is told where no hook has said anything) and
--- retry_after (of a denial),
--- subscription ({ topics, filter, format, params, expires, audience, presence, quota, tags }: equal audiences share
--- policy work).
function Policy:connect(options)
  options = options or {}
  check_keys(options, request_options, 2)
  local before, request = #self.failures, request_text("GET", options)
  local c = exchange(self, Client, request)
  times.connected(self, request)
  local media = c.headers["content-type"] or ""
  if c.status ~= 200 or media:find "^application/" then
    read_body(c)
    c.page = c.status == 200 and page_of(c) or nil
    c.kind = (c.page or c.status == 304) and "granted" or c.status == 503 and "transient" or "denied"
    c.ended = true
    return c
  end
  return take_stream(self, c, before)
end

--- A client that publishes, through the policy's `publish` hook. options: topic, type, data (a text, or a value that
--- becomes JSON), attrs, key, expires, ttl, and query, headers, cookies, bearer, ip, tls. `raw` in place of the event's
--- fields but topic: the body as other services send it, to ?topic=TOPIC, or to `path`, a route. `form` (a table like
--- query): the body is a form.
--- The answer has: kind, status, headers, reason and retry_after (of a denial), id (integer) of the event when it
--- was granted, body, and dropped (why) when the policy has dropped it. On a route with answer = "stream" it is a
--- client as of p:connect, unless the policy wants no stream.
function Policy:post(options)
  check_keys(options, post_options, 2)
  local e = options
  if e.raw and (e.data or e.type or e.attrs or e.key or e.expires or e.ttl) then
    error("raw: the body is all there is; data, type, attrs, key, expires and ttl cannot be given, too", 2)
  end
  local envelope = {
    topic = options.topic, type = options.type, data = options.data, attrs = options.attrs, key = options.key,
    expires = options.expires, ttl = options.ttl,
  }
  local target = options
  if options.raw and not options.path then
    target = setmetatable({ topics = { options.topic } }, { __index = options })
  end
  local request = request_text("POST", target, options.raw or json.encode(envelope))
  local c = exchange(self, Answer, request)
  times.posted(self, request, not options.raw and options.topic and event_fields(envelope, 2))
  if c.status == 200 and (c.headers["content-type"] or ""):find("text/event-stream", 1, true) then
    return take_stream(self, setmetatable(c, Client), #self.failures)
  end
  read_body(c)
  c.kind = c.status // 100 == 2 and "granted" or c.status == 503 and "transient" or "denied"
  c.id = math.tointeger(tonumber(c.json and c.json.id or not c.json and c.body))
  c.dropped = c.json and c.json.dropped
  c.kind = c.dropped and "dropped" or c.kind
  return c
end

local batch_options = { query = true, headers = true, cookies = true, bearer = true, ip = true, tls = true }

--- A client that publishes several events in one request: p:batch { { topic = "a", data = 1 }, { ... }, bearer = ... }.
--- Each is an event as of p:post without `raw`; the other options are those of the request. `publish` is asked about
--- each; one denial refuses them all.
--- The answer has: kind, status, headers, reason and retry_after (of a denial), answers: for each event { id
--- (integer) } or { dropped (why) }; with `duplicate` where its key was known.
function Policy:batch(options)
  local body, known = {}, setmetatable({}, { __index = batch_options })
  for i, event in ipairs(options) do
    check_keys(event, event_options, 2)
    body[i], known[i] = event, true
  end
  check_keys(options, known, 2)
  local c = exchange(self, Answer, request_text("POST", options, json.encode(json.array(body))))
  read_body(c)
  c.kind = c.status < 300 and "granted" or c.status == 503 and "transient" or "denied"
  c.answers = c.kind == "granted" and c.json or nil
  for _, answer in ipairs(c.answers or {}) do
    answer.id = math.tointeger(tonumber(answer.id))
  end
  return c
end

--- An event that an application stores itself (in PostgreSQL: an INSERT): no `publish` hook is asked.
--- event: topic, type, data (a text, or a value that becomes JSON), attrs, key, expires, ttl.
function Policy:publish(event)
  local fields = event_fields(event, 2)
  local ok, err = self.bench:insert(fields)
  times.published(self, fields)
  if not ok then
    error(err, 2)
  end
end

-- clients ----------------------------------------------------------------------------------------

-- Blocks of a stream that are complete: WHATWG HTML, 9.2.6. The broker ends lines with LF alone.
local function parse(c)
  while true do
    local block, rest = c.received:match "^(.-)\n\n(.*)$"
    if not block then
      return
    end
    c.received = rest
    local event, data = { type = "message" }, {}
    for line in (block .. "\n"):gmatch "(.-)\n" do
      local name, value = line:match "^([^:]+): ?(.*)$"
      if name == "data" then
        data[#data + 1] = value
      elseif name == "id" then
        event.id = math.tointeger(tonumber(value)) or value
      elseif name == "event" then
        event.type = value
      end
    end
    event.data = table.concat(data, "\n")
    local own = event.type == "position" or event.type == "live" -- the broker's
    if #data > 0 and not (own and event.data:find '^{"position":"%d+"}$') then
      c.delivered[#c.delivered + 1] = event
    end
  end
end

--- Everything delivered so far: { { id (integer), type, data (text) }, ... }. Waits until nothing is in progress.
function Client:events()
  if self.page then
    return self.page.events
  end
  self.delivered = self.delivered or {}
  self.policy.bench:turn() -- for what waits for the next turn: the end of a stream whose place is taken
  self.policy:wait(function()
    receive(self)
    return self.policy.bench:settled()
  end, "delivery")
  receive(self)
  parse(self)
  return self.delivered
end

--- Their ids.
function Client:ids()
  local ids = {}
  for i, event in ipairs(self:events()) do
    ids[i] = math.tointeger(tonumber(event.id)) or event.id
  end
  return ids
end

--- Their data, decoded.
function Client:data()
  local values = {}
  for i, event in ipairs(self:events()) do
    local value, err = event.data, nil
    if not self.page then
      value, err = json.decode(event.data)
    end
    if err then
      error(("event %s: %s"):format(event.id, err), 2)
    end
    values[i] = value
  end
  return values
end

--- Has the broker ended the stream?
function Client:closed()
  self.policy.bench:turn()
  return self.page ~= nil or receive(self)
end

--- Goes away, as a browser does.
function Client:disconnect()
  self.socket:close()
  self.ended = true
  for _ = 1, 3 do
    self.policy.bench:turn()
  end
end

-- assertions -------------------------------------------------------------------------------------

local function shown(c)
  local text = c.kind
  if c.kind == "denied" then
    text = ("denied %d: %s"):format(c.status, c.reason or "")
  elseif c.kind == "transient" or c.kind == "dropped" then
    text = text .. ": " .. (c.reason or c.dropped or "the policy has said nothing")
  elseif c.subscription then
    text = "granted " .. table.concat(c.subscription.topics, ", ")
  end
  return text
end

local function register(name, expected, holds)
  say:set("assertion." .. name .. ".positive", "Expected " .. expected .. ", got:\n%s")
  say:set("assertion." .. name .. ".negative", "Expected anything but " .. expected .. ", got:\n%s")
  assert:register("assertion", name, function(_, arguments)
    local ok, c = holds(arguments)
    arguments[1], arguments.n = shown(c), 1
    arguments.nofmt = { true }
    return ok
  end, "assertion." .. name .. ".positive", "assertion." .. name .. ".negative")
end

local function check_answer(value, position)
  if type(value) ~= "table" or not value.kind then
    error(("argument %d: what p:connect() or p:post() returned was expected"):format(position), 4)
  end
  return value
end

register("granted", "a grant", function(arguments)
  local c = check_answer(arguments[1], 1)
  return c.kind == "granted", c
end)
register("transient", "a temporary refusal", function(arguments)
  local c = check_answer(arguments[1], 1)
  return c.kind == "transient", c
end)
--- assert.faultless(policy): every hook kept its word and its budget of CPU time.
say:set("assertion.faultless.positive", "Expected a policy without errors, got (hook = count):\n%s")
say:set("assertion.faultless.negative", "Expected a policy with errors")
assert:register("assertion", "faultless", function(_, arguments)
  local list = {}
  for hook, count in pairs((arguments[1]:errors())) do
    if count > 0 then
      list[#list + 1] = hook .. " = " .. count
    end
  end
  local fine = #list == 0
  for _, failure in ipairs(arguments[1].failures) do
    list[#list + 1] = not failure.transient and "  " .. failure_text(failure) or nil
  end
  arguments[1], arguments.n, arguments.nofmt = table.concat(list, "\n"), 1, { true }
  return fine
end, "assertion.faultless.positive", "assertion.faultless.negative")
--- assert.denied(status, client)
register("denied", "a denial with that status", function(arguments)
  local c = check_answer(arguments[2], 2)
  return c.kind == "denied" and c.status == arguments[1], c
end)

return t
