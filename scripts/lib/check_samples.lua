--- What `tidegate check` asks a policy: requests made up for the purpose, and the operator's own. They show mistakes
--- that only running the hooks can: wrong return values, nil where something was expected. A made-up request that makes
--- a hook fail is a warning, since the operator has not listed it; a sample of the operator's is an error.
---   samples.run(facts, to); to: add(problem), worsen(problem) (a warning that is to be an error),
---     locate(text) -> problem, skip(step, why), tried()
local native, request_text = require "tidegate.test.native", require "tidegate.test.request"
local costs, eval = require "tidegate.check.costs", require "tidegate.eval"
local latest = require "tidegate.check.latest"
local tokens = require "tidegate.check.tokens"
local json = native.json

local samples = {}

local CACHED_S = 10 * 365 * 86400 -- longer than any value is
local SECONDS = 5 -- for all made-up requests: hooks may wait

-- Stand for databases and servers.
local OUTSIDE = {
  { what = "while databases and servers are away",
    hint = "when a look-up fails, `return nil, err`: the client is temporarily refused",
    answer = function(kind) return nil, kind .. " is away (tidegate check)" end },
  { what = "while databases have no rows and servers answer 404",
    hint = "the client is temporarily refused, again and again: deny it, tg.deny(403, ...)",
    answer = function(kind)
      return kind == "db" and "[]" or json.encode { status = 404, body = "", headers = {} }
    end },
}
local HINT = "the client is temporarily refused, again and again: return a grant, or tg.deny(400, ...)"

-- made-up requests -------------------------------------------------------------------------------

-- Headers with fields of their own in what is made up, or without which there is no request:
local NOT_MADE_UP = {
  authorization = true, cookie = true, host = true, accept = true, connection = true, expect = true,
  ["content-type"] = true, ["content-length"] = true, ["transfer-encoding"] = true, ["x-forwarded-for"] = true,
  ["last-event-id"] = true,
}

-- Names of query parameters, headers and cookies that the policy's files speak of: what is sent under others is not
-- looked at. Those that are missed are not tried, nothing worse.
local function spoken_of(files)
  local found = { query = {}, headers = {}, cookies = {} }
  for _, path in ipairs(files) do
    local text = eval.text_of(path)
    for kind, names in pairs(found) do
      for _, pattern in ipairs { "%.([%a_][%w_]*)", "%[[\"']([%w_%-]+)[\"']%]" } do
        for name in text:gmatch("%f[%w_]" .. kind .. pattern) do
          name = kind == "headers" and name:lower() or name
          names[name] = not (kind == "headers" and NOT_MADE_UP[name]) or nil
        end
      end
    end
  end
  found.query.topic = nil -- `topics`; what clients ask for there may be patterns
  return found
end

-- All of them with `value`, a text or a function of kind and name.
local function fields(found, value)
  local out = { query = {}, headers = {}, cookies = {} }
  for kind, names in pairs(found) do
    for name in pairs(names) do
      out[kind][name] = type(value) == "function" and value(kind, name) or value
    end
  end
  return out
end

local function made_up(found)
  local function with(request, value)
    for kind, values in pairs(fields(found, value)) do
      request[kind] = request[kind] or values
    end
    return request
  end
  return {
    { what = "an anonymous request", request = {} },
    { what = "a request for a topic", request = { topics = { "sample/topic" }, last_event_id = "1" } },
    { what = "a request without a query", request = with({ query = {} }, "sample") },
    { what = "a request with plain values", request = with({ topics = { "sample" }, bearer = "sample" }, "sample") },
    { what = "a request with numbers", request = with({ topics = { "1" }, bearer = "1" }, "1") },
    { what = "a request with empty values", request = with({ topics = { "" } }, "") },
    { what = "a request with nonsense", request = with({ topics = { "a//b", "a\1b", "*x", ("x"):rep(2000) },
      bearer = "a.b.c" }, ("%;'\"/-"):rep(40)) },
  }
end

local EVENTS = {
  { what = "an event", event = { topic = "sample/topic", data = json.encode { sample = 1 } } },
  { what = "an event with everything", event = { topic = "sample", type = "sample", key = "sample", data = "sample",
    attrs = { sample = "sample", number = 1, flag = true } } },
}

-- What stands for databases and servers takes any question; the broker raises on those without an answer. A function
-- that sees each, and says so once.
local function referee(facts, to)
  local queries, targets, said = {}, {}, {}
  for _, query in ipairs(facts.about.queries) do
    queries[query.name] = query.parameters
  end
  for _, name in ipairs(facts.targets) do
    targets[name] = true
  end
  return function(kind, name, arguments)
    local message
    if kind == "http" and not targets[name] then
      message = ("http: '%s' is called, which is not a target of the configuration"):format(name)
    elseif kind == "db" and not queries[name] then
      message = ("db.query: '%s' is called, which the policy does not declare"):format(name)
    elseif kind == "db" and #json.decode(arguments) ~= queries[name] then
      message = ("db.query: '%s' is called with %d arguments, and takes %d"):format(name, #json.decode(arguments),
        queries[name])
    end
    if message and not said[message] then
      said[message] = true
      to.add { severity = "error", source = "hooks", file = facts.policy, message = message }
    end
  end
end

-- A policy on a test broker; a function: what has gone wrong in it since the last time, and has it asked others?
-- And a list of what its calls of tg.jwt want. `keys`: in place of the configuration's, see check_tokens.lua.
local function open(facts, outside, check, keys)
  local failures = { tokens = {} }
  local asked = false
  local bench, err = native.open(facts.policy, 0, function(kind, name, arguments)
    if kind == "set" then -- no request asks it
      return "[]"
    end
    asked = true
    check(kind, name, arguments)
    return outside.answer(kind)
  end, keys and tokens.sets(keys), nil, failures)
  return bench, err, function()
    local was_asked = asked
    asked = false
    local taken = table.move(failures, 1, #failures, 1, {})
    for i = #failures, 1, -1 do
      failures[i] = nil
    end
    return taken, was_asked
  end, failures.tokens
end

local Tries = {}
Tries.__index = Tries

-- Says each failure once, however many requests find it.
function Tries:report(what, failures, asked)
  for _, failure in ipairs(failures) do
    local text = eval.shown(failure)
    local known = failure.hook .. "\0" .. text
    if not failure.transient and failure.hook ~= "filter" and failure.hook ~= "format" and not self.seen[known] then
      self.seen[known] = true
      local problem = self.to.locate(text)
      local keys = problem.message:find("tg.jwt: unknown key set", 1, true) -- whatever is asked
        or problem.message:find "tg%.jwt: alg: the keys of '.-' are not for"
      problem.severity, problem.source = keys and "error" or "warning", "hooks"
      problem.message = ("%s fails for %s%s: %s"):format(failure.hook, what, asked and " " .. self.outside.what or "",
        problem.message)
      self.bad_keys = self.bad_keys or keys
      if not keys and failure.hook ~= "disconnect" then
        problem.hint = asked and self.outside.hint or HINT
      end
      self.to.add(problem)
      self.problems[failure.hook] = self.problems[failure.hook] or problem
    end
  end
end

function Tries:over()
  self.limit.over = self.limit.over or native.seconds() > self.limit.at
  return self.limit.over
end

-- Counts what the policy was asked; says, once, why it could not be.
function Tries:count(verdict, refused, what)
  if verdict then
    self.to.tried()
    self.granted = self.granted or verdict.kind == "granted"
  elseif not self.seen[refused] then
    self.seen[refused] = true
    self.to.skip("hooks", ("%s never reaches a policy: %s"):format(what, refused))
  end
end

-- Once: what a subscription wants of store.latest is not there. `of`: { policy, latest }.
local function add_latest(to, of, subscription, invented)
  local message, hint = latest.missing(subscription, of.latest, invented)
  if message and not of.latest.said then
    of.latest.said = true
    to.add { severity = "warning", source = "hooks", file = of.policy, message = message, hint = hint }
  end
end

-- The verdict; nil: the broker would not have asked the policy, or there is no time left. `quiet`: what fails is left
-- to the caller, and answered beside it.
function Tries:subscribe(request, what, quiet)
  if self:over() then
    return nil
  end
  self.bench:refill() -- that many requests come of nobody
  local verdict, refused = self.bench:subscribe(request_text("GET", request))
  self:count(verdict, refused, what)
  local asks_again = verdict and verdict.kind == "denied" and request
  if verdict and verdict.subscription then -- the filter meets its params when the first such client comes
    local s = verdict.subscription
    self.bench:judge({ filter = s.filter, format = s.format, params = s.params, ends = s.ends },
      { topic = "sample", data = "{}" })
    add_latest(self.to, self, s, true)
    self.identity = self.identity or verdict.identity
  end
  local failures, asked = self.take()
  if verdict and verdict.kind == "granted" and not self.limit.steady then
    self.limit.steady = true -- once
    self:steady(request, verdict)
  end
  if not quiet then
    self:report(what, failures, asked)
  end
  if verdict then
    self:note(failures, asked, "authenticate", "subscribe", asks_again)
  end
  if quiet then
    return verdict, failures, asked
  end
  return verdict
end

-- A clock that has moved on: for what does not expire within two seconds.
local function later(bench, ask)
  bench:set_time((os.time() + 2) * 1000)
  bench:refill()
  local answer = ask()
  bench:set_time(0)
  return answer
end

local function add_cost(to, facts, message)
  to.add { severity = "warning", source = "hooks", file = facts.policy, message = message, hint = costs.PARAMS_HINT }
end

-- Is what it grants the same when it is asked again?
function Tries:steady(request, verdict)
  local again = later(self.bench, function() return self.bench:subscribe(request_text("GET", request)) end)
  self.take()
  local before, after = verdict.subscription, again and again.subscription
  local message = before and after and costs.unsteady(json.decode(before.params or "{}"),
    json.decode(after.params or "{}"))
  if message then
    add_cost(self.to, self, message)
  end
end

-- Remembers for each hook whether any request got through it: `last` is the last one that could be reached. Who is
-- denied does not learn by which hook: `request` is asked about again, when it matters. A hook that has asked others
-- counts as one that works: what it gets here is made up.
function Tries:note(failures, asked, first, last, request)
  local failed
  for _, failure in ipairs(failures) do
    if failure.transient and failure.text:find("tg.jwt", 1, true) then
      return -- its keys are fetched by a broker, not here: nobody has decided anything
    end
    failed = failed or (failure.hook == first or failure.hook == last) and not failure.transient and failure
  end
  local fate = self.fates[failed and failed.hook or last]
  if failed and not asked then
    fate.failure = true
  elseif request then
    fate.denied[#fate.denied + 1] = { request = request, tries = self }
  else
    fate.works = true
  end
  self.fates[first].works = self.fates[first].works or not failed or failed.hook == last
end

-- An error for each hook that fails whatever it is asked.
function Tries:judge()
  for _, hook in ipairs { "authenticate", "subscribe", "publish" } do
    local fate = self.fates[hook]
    for _, denied in ipairs(fate.failure and not fate.works and fate.denied or {}) do
      denied.tries.bench:refill()
      local verdict = not self:over() and denied.tries.bench:authenticate(request_text("GET", denied.request))
      denied.tries.take()
      fate.works = fate.works or not verdict or verdict.kind == "granted" -- then the hook has denied it
    end
    local problem = self.problems[hook]
    if problem and problem.severity == "warning" and fate.failure and not fate.works then
      local what, text = problem.message:match "^%S+ fails for (.-): (.*)$"
      what = what:gsub("^an anonymous request", "has no token"):gsub("^a token", "has %0"):gsub("^a ", "is %0")
      problem.message = ("%s fails for every request that check tries. The first %s: %s"):format(hook, what, text)
      problem.hint = ("%s; or name requests that work with --samples FILE%s"):format(problem.hint,
        #self.routes > 0 and ', those of routes with their path: "path": "/ask/7"' or "")
      self.to.worsen(problem)
    end
  end
end

function Tries:publish(sample, request, how)
  if not self:over() then
    local what = "a publish of " .. sample.what .. (how or "")
    self.bench:refill()
    local verdict, refused = self.bench:accept(request_text("POST", request, json.encode(sample.event)))
    self:count(verdict, refused, what)
    local failures, asked = self.take()
    self:report(what, failures, asked)
    if verdict then
      self:note(failures, asked, "authenticate", "publish", verdict.kind == "denied" and request)
    end
  end
end

-- Does authenticate allow it? Who is denied does not learn by which hook, so it is asked alone.
function Tries:reached(requests)
  for _, sample in ipairs(self.granted and {} or requests) do
    self.bench:refill()
    local verdict = not self:over() and self.bench:authenticate(request_text("GET", sample.request))
    self.take()
    self.granted = self.granted or verdict and verdict.kind == "granted"
  end
  return self.granted
end

function Tries:others()
  if self.identity and not self:over() then
    self.bench:disconnect(self.identity)
    self:report("a client that has left", self.take())
  end
  local fine, err = self.bench:reload()
  if not fine and not self.seen[err] then
    self.seen[err] = true
    local problem = self.to.locate(err)
    problem.severity, problem.source, problem.message = "warning", "hooks", "reload fails: " .. problem.message
    self.to.add(problem)
  end
end

local function topics_of(verdict, replace, by)
  local out = {}
  for i, topic in ipairs(verdict and verdict.subscription and verdict.subscription.topics or {}) do
    out[i] = replace and ("/" .. topic .. "/"):gsub("/" .. replace .. "/", "/" .. by .. "/"):sub(2, -2) or topic
  end
  table.sort(out)
  return table.concat(out, " ")
end

-- A value of the request that is granted as a part of topics: is it granted as a wildcard, too? `only`: no query
-- but the parameter in question.
function Tries:wildcard(found, kind, name, only)
  local function request_with(value)
    local request = fields(found, function(k, n)
      return "sample-" .. k .. "-" .. n
    end)
    request.query = only and {} or request.query
    request[kind][name] = value or "sample-" .. kind .. "-" .. name
    return request
  end
  local usual = self:subscribe(request_with(), "a request with plain values")
  local expected = topics_of(usual, ("sample-" .. kind .. "-" .. name):gsub("%-", "%%-"), "*")
  if expected == topics_of(usual) then
    return
  end
  if topics_of(self:subscribe(request_with "*", "a request with a wildcard")) == expected then
    self.to.add { severity = "warning", source = "hooks", file = self.policy,
      message = ('subscribe grants what the client says in %s.%s as a part of topics, even "*": %s'):format(kind,
        name, expected),
      hint = "a client could read events of others: tg.topic(...) refuses wildcards, tg.topic_ok(...) tests for them" }
    return true
  end
end

function Tries:wildcards(found)
  for kind, names in pairs(found) do
    for name in pairs(names) do
      if not self:wildcard(found, kind, name, true) then
        self:wildcard(found, kind, name, false)
      end
    end
  end
end

-- Of equal ones the first; those of unknown algorithms are reported already.
local function each_once(wants)
  local known, list = {}, {}
  for _, want in ipairs(wants) do
    local key = want.keys and want.alg and tokens.key_of(want)
    if key and not known[key] then
      known[key] = true
      list[#list + 1] = want
    end
  end
  return list
end

-- A request with the token, wherever one may be looked for.
local function with_token(found, token, topics)
  local request = fields(found, function(kind, name)
    local secret = name:lower():find "token" or name:lower():find "jwt" or name:lower():find "auth"
    return (kind == "cookies" or kind == "query" and secret) and token or "sample"
  end)
  request.bearer, request.topics = token, topics
  return request
end

-- Tokens that the policy lets in: are the hooks behind that well? `sign`: see check_tokens.lua.
function Tries:tokens(found, sign, publishes)
  local best, first
  for _, guess in ipairs(tokens.guesses) do
    local verdict, failures, asked = self:subscribe(with_token(found, sign(guess.value)), guess.what, true)
    first = first or verdict and { failures = failures, asked = asked }
    local granted = verdict and verdict.kind == "granted"
    if verdict and #failures == 0 and (granted or not best) then
      best = { guess = guess, verdict = verdict }
    end
    if granted or not verdict then
      break
    end
  end
  if not best then
    if first then
      self:report(tokens.guesses[1].what, first.failures, first.asked)
    end
    best = { guess = tokens.guesses[1] }
  end
  local others, wildcards = tokens.others(best.guess.value)
  for _, other in ipairs(others) do
    self:subscribe(with_token(found, sign(other.value)), other.what)
  end
  local expected = topics_of(best.verdict, tokens.PLAIN, "*")
  local wild = self:subscribe(with_token(found, sign(wildcards.value)), wildcards.what, true)
  if topics_of(wild) == expected and expected ~= topics_of(best.verdict) and not self.seen[expected] then
    self.seen[expected] = true
    self.to.add { severity = "warning", source = "hooks", file = self.policy,
      message = 'subscribe grants what the token says as a part of topics, even "*": ' .. expected,
      hint = "if users can choose it, they could read events of others: tg.topic(...) refuses wildcards" }
  end
  local usual = with_token(found, sign(best.guess.value), { "sample/topic" })
  self:subscribe(usual, "a request for a topic with a token")
  for _, sample in ipairs(publishes and EVENTS or {}) do
    self:publish(sample, with_token(found, usual.bearer), " with a token")
  end
  return self:reached { { request = usual } }
end

-- Answers whether authenticate kept all of them from the hooks behind it, and whether publish is one of those.
local function try_made_up(facts, to, check)
  local seen, limit = {}, { at = native.seconds() + SECONDS }
  local found, publishes = spoken_of(facts.files), false
  local fates, problems = {}, {} -- by hook; the latter: the first of each that was said
  for _, hook in ipairs { "authenticate", "subscribe", "publish" } do
    fates[hook] = { denied = {} }
  end
  local opened, reached = false, false
  for _, hook in ipairs(facts.about.hooks) do
    publishes = publishes or hook == "publish"
  end
  local benches = {}
  local function tries_on(bench, take, outside)
    benches[#benches + 1] = bench
    return setmetatable({ bench = bench, take = take, to = to, seen = seen, outside = outside, limit = limit,
      policy = facts.policy, latest = facts.latest, routes = facts.routes, fates = fates, problems = problems }, Tries)
  end
  local tries, wanted
  for i, outside in ipairs(OUTSIDE) do
    local bench, err, take, wants = open(facts, outside, check, facts.keys_error and tokens.keys(facts.keys, {}))
    if bench then
      tries = tries_on(bench, take, outside)
      local requests = made_up(found)
      for _, sample in ipairs(requests) do
        tries:subscribe(sample.request, sample.what)
      end
      for _, sample in ipairs(publishes and EVENTS or {}) do
        tries:publish(sample, {})
        tries:publish(sample, fields(found, "sample"))
      end
      if i == #OUTSIDE then
        tries:wildcards(found)
      end
      opened, reached = true, tries:reached(requests) or reached
      tries:others()
      wanted = wanted or not tries.bad_keys and each_once(wants)
      for _, want in ipairs(wanted or {}) do
        local began = native.seconds()
        local made = tokens.keys(facts.keys, { want })
        local other, _, other_take = open(facts, outside, check, made)
        limit.at = limit.at + native.seconds() - began -- some keys take a while
        if other then
          local with = tries_on(other, other_take, outside)
          reached = with:tokens(found, tokens.signer(want, made[want.keys], facts.files), publishes) or reached
        end
      end
    else
      to.skip("hooks", ("setup fails %s: %s"):format(outside.what, err))
    end
  end
  if tries and not facts.samples then
    tries:judge()
  end
  for _, bench in ipairs(benches) do
    bench:close()
  end
  if limit.over then
    to.skip("hooks", ("some requests were left out: the others took %d s"):format(SECONDS))
  end
  return opened and not reached and not limit.over, publishes
end

-- the operator's own -----------------------------------------------------------------------------

-- {line = n | nil, at = "sample 3", value}: of a list, or of lines.
local function read(text, problem)
  local list = {}
  if text:find "^%s*%[" then
    local all, err = json.decode(text)
    if all == nil then
      problem(nil, err)
    end
    for i, value in ipairs(all or {}) do
      list[i] = { value = value, what = "sample " .. i }
    end
    return list
  end
  local n = 0
  for line in (text .. "\n"):gmatch "(.-)\r?\n" do
    n = n + 1
    if line:find "%S" then
      local value, err = json.decode(line)
      if value == nil and line:find "^%s*{" and not line:find "}%s*$" then
        problem(n, "one object on each line, or an array, was expected: this object does not end on its line")
        return list
      elseif value == nil then
        problem(n, err)
      else
        list[#list + 1] = { value = value, line = n, what = "sample" }
      end
    end
  end
  return list
end

local EXPECTED = {
  granted = true, denied = true, transient = true, deliver = true, filtered = true, skip = true, observed = true,
  ["not-observed"] = true,
}

local function is(result, expect)
  return expect == nil or expect == result.kind or expect == result.result
    or result.kind == "denied" and expect == result.status
end

local function shown(result)
  if result.kind == "denied" then
    return ("denied %d: %s"):format(result.status, result.reason)
  elseif result.subscription then
    return "granted " .. table.concat(result.subscription.topics, ", ")
  end
  return (result.kind or result.result) .. (result.reason and ": " .. result.reason or "")
end

-- Nil, or what is wrong with the sample itself. `reached` gets the hook that was asked, where authenticate let it.
local function try_one(bench, sample, failed, answered, reached, granted)
  local value = sample.value
  if type(value) ~= "table" or json.encode(value):sub(1, 1) ~= "{" then
    return "a JSON object was expected"
  end
  local hook, expect = value.hook or "subscribe", value.expect
  value.hook, value.expect = nil, nil
  if not eval.hooks[hook] then
    return "hook: authenticate, subscribe, publish, filter, format or observe was expected"
  elseif expect ~= nil and not EXPECTED[expect] and math.type(expect) ~= "integer" then
    return "expect: granted, denied, a status, transient, deliver, filtered, skip, observed or not-observed was "
      .. "expected"
  end
  local from_identity = value.who ~= nil
  local ran, result = pcall(eval.hooks[hook], bench, value)
  if not ran then
    return type(result) == "table" and result.input or tostring(result)
  end
  reached[hook] = reached[hook] or from_identity or result.kind == "granted"
  if not failed() and not is(result, expect) then
    answered(hook, expect, shown(result))
  end
  if hook == "subscribe" and result.subscription then
    granted(result.subscription, value)
  end
end

-- What the grants of all samples have in common, and what asking twice shows.
local function judge_grants(facts, to, grants)
  local text = {}
  for _, filter in ipairs(facts.about.filters) do
    text[filter.name] = filter.kind == "text"
  end
  for _, message in ipairs(costs.params(grants, text)) do
    add_cost(to, facts, message)
  end
end

-- Answers which hooks they reached.
local function try_own(facts, to, check)
  local reached = {}
  local function problem(line, message)
    to.add { severity = "error", source = "samples", file = facts.samples_file, line = line, message = message }
  end
  local list, grants, unsteady = read(facts.samples, problem), {}, false
  local current, failures = {}, {}
  local bench, err = eval.open(facts.policy, function() return current end, failures, check)
  if not bench then
    problem(nil, "they were not tried, the policy does not load on the answers they give: " .. err)
    return reached
  end
  for _, sample in ipairs(list) do
    current = type(sample.value) == "table" and sample.value or {}
    if current.hook == "filter" and type(current.sets) ~= "table" then
      current.sets = {}
    end
    for i = #failures, 1, -1 do
      failures[i] = nil
    end
    to.tried()
    bench:set_time((os.time() + CACHED_S) * 1000) -- what the cache has of other samples is too old now
    bench:set_time(0)
    while bench:loading() do -- what is in the sets, of this sample
      bench:turn()
    end
    bench:refill()
    local bad = try_one(bench, sample, function()
      for _, failure in ipairs(failures) do
        if not failure.transient then
          problem(sample.line, ("%s: %s fails: %s"):format(sample.what, failure.hook, eval.shown(failure)))
          return true
        end
      end
    end, function(hook, expect, got)
      problem(sample.line, ("%s: %s: %s was expected, got %s"):format(sample.what, hook, expect, got))
    end, reached, function(s, value)
      grants[#grants + 1] = { topics = s.topics, filter = s.filter, format = s.format, params = s.params,
        request = json.encode(value) }
      add_latest(to, facts, s)
      local again = not unsteady and later(bench, function() return eval.hooks.subscribe(bench, value).subscription end)
      local message = again and costs.unsteady(s.params, again.params)
      if message then
        unsteady = true
        add_cost(to, facts, message)
      end
    end)
    if bad then
      problem(sample.line, ("%s: %s"):format(sample.what, bad))
    end
  end
  bench:close()
  if not unsteady then
    judge_grants(facts, to, grants)
  end
  return reached
end

function samples.run(facts, to)
  local check = referee(facts, to)
  local kept, publishes, reached = false, false, {}
  if facts.try_hooks then
    kept, publishes = try_made_up(facts, to, check)
  end
  if facts.samples and facts.keys_error then
    to.skip("samples", "keys cannot be read")
  elseif facts.samples then
    reached = try_own(facts, to, check)
  end
  local rest = {}
  for _, hook in ipairs(kept and { "subscribe", publishes and "publish" or nil } or {}) do
    rest[#rest + 1] = not reached[hook] and hook or nil
  end
  if #rest > 0 then
    to.skip("hooks", ("%s not tried, since authenticate denies all requests that check makes up: list requests with "
      .. '"who" in a file and name it with --samples (tidegate help check)'):format(
      table.concat(rest, " and ") .. (#rest > 1 and " were" or " was")))
  end
end

return samples
