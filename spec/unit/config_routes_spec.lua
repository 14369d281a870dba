-- http.routes in a configuration: what is right, and what is wrong with it where.
local config = require "native.config"

local path = os.tmpname()

local function load(routes, settings)
  local file <close> = assert(io.open(path, "w"))
  assert(file:write(("return {\n policy = { file = 'p.lua' },\n http = { %s\n routes = {\n%s\n} },\n}"):format(
    settings or "", table.concat(routes, ",\n"))))
  file:close()
  return config.load(path)
end

describe("http.routes", function()
  teardown(function() os.remove(path) end)

  it("takes routes that are right", function()
    local settings, problems = load {
      '{ path = "/a/{x}", subscribe = true }', '{ path = "/a/{x}/b", publish = "raw", topic = "t/{x}-{x}" }',
      '{ path = "/b", publish = "form", topic = "t", answer = "empty", status = 204 }',
      '{ path = "/.well-known/mercure", subscribe = true, position_field = "Last-Event-ID" }',
      '{ path = "/b/", publish = "envelope", status = 202 }',
      '{ path = "/c", publish = "cloudevents" }',
      '{ path = "/c/{x}", publish = "cloudevents", topic = "ce/{x}/{source}/{subject}/{type}" }',
    }
    assert.truthy(settings, problems)
  end)

  it("says what is wrong, and where", function()
    for route, wanted in pairs {
      ['{ path = "/events", subscribe = true }'] = { 'http.routes[1].path: "/events" fits /events, too', 5 },
      ['{ path = "/{x}", subscribe = true }'] = { '"/{x}" fits /events, too', 5 },
      ['{ path = "/", subscribe = true }'] = { "the test page", 5 },
      ['{ path = "/ok", publish = "raw", topic = "a" },\n{ path = "/{x}k", subscribe = true }'] = {
        "a whole segment", 6 },
      ['{ path = "/a/{x}", subscribe = true },\n{ path = "/a/b", subscribe = true }'] = {
        '"/a/b" fits /a/{x}, too, which is http.routes[1]', 6 },
      ['{ path = "/a/b", subscribe = true },\n{ path = "/a/{x}", subscribe = true }'] = { "http.routes[1]", 6 },
      ['{ path = "/a/{x}/c", subscribe = true },\n{ path = "/a/b/{y}", subscribe = true }'] = { "http.routes[1]", 6 },
      ['{ path = "/a/{x}/{x}", subscribe = true }'] = { "has {x} twice", 5 },
      ['{ path = "/a/{1}", subscribe = true }'] = { "a whole segment", 5 },
      ['{ path = "/a" }'] = { "does nothing", 5 },
      ['{ path = "/a", publish = "raw" }'] = { "topic: is needed", 5 },
      ['{ path = "/a", publish = "form" }'] = { "topic: is needed", 5 },
      ['{ path = "/a", publish = "raw", topic = "t/{x}" }'] = { "{x} is not in the path", 5 },
      ['{ path = "/a", publish = "raw", topic = "t/{source}" }'] = { "{source} is not in the path", 5 },
      ['{ path = "/a", publish = "cloudevents", topic = "t/{id}" }'] = {
        "{id} is not in the path, and of a CloudEvent only {source}, {type} and {subject}", 5 },
      ['{ path = "/a", publish = "raw", topic = "t//x" }'] = { "is not a topic", 5 },
      ['{ path = "/a", publish = "raw", topic = "t/{x" }'] = { "is not a topic", 5 },
      ['{ path = "/a", publish = "raw", topic = "t/*" }'] = { "expected a topic", 5 },
      ['{ path = "/a", publish = "envelope", topic = "t" }'] = { "has no effect without", 5 },
      ['{ path = "/a", publish = "raw", topic = "t", status = 404 }'] = { "status", 5 },
      ['{ path = "/a", publish = "raw", topic = "t", status = 100 }'] = { "status", 5 },
      ['{ path = "/a", publish = "raw", topic = "t", status = 204 }'] = { 'answer = "empty"', 5 },
      ['{ path = "/a", publish = "xml", topic = "t" }'] = { 'expected "raw", "envelope", "form" or "cloudevents"', 5 },
      ['{ path = "/a", publish = "raw", topic = "t", answer = "stream", status = 201 }'] = { "a stream has 200", 5 },
      ['{ path = "/a", publish = "raw", topic = "t", answer = "events" }'] = { 'expected "json", "id", "empty"', 5 },
      ['{ path = "/a", publish = "envelope", delete = true }'] = { 'has no effect without publish = "raw"', 5 },
      ['{ path = "a", subscribe = true }'] = { "expected a path", 5 },
      ['{ path = "/a", subscribe = true, answer = "id" }'] = { "has no effect without publish", 5 },
      ['{ path = "/a", publish = "envelope", position_field = "Last-Event-ID" }'] = {
        "has no effect without subscribe", 5 },
      ['{ path = "/a", subscribe = true, position_field = "Date" }'] = { 'expected "Last-Event-ID"', 5 },
      ['{ path = "/h", subscribe = true }'] = { "http.health_path", 5, 'health_path = "/h",' },
      ['{ path = "/.well-known/{a}/{b}", subscribe = true }'] = { "acme_webroot", 5, 'acme_webroot = ".",' },
    } do
      local settings, problems = load({ route }, wanted[3])
      assert.is_nil(settings, route)
      assert.truthy(problems:find(wanted[1], 1, true), route .. "\n" .. problems)
      assert.truthy(problems:find(("%s:%d: http.routes["):format(path, wanted[2]), 1, true), route .. "\n" .. problems)
    end
  end)
end)
