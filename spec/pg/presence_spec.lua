-- Who is there, at two brokers on one database: each member is announced once, and leaves when its broker is killed.
local eventually = require "support.eventually"
local http = require "support.http"
local pg = require "support.pg"
local sse = require "support.sse"

local SEED = tonumber(os.getenv "TIDEGATE_SPEC_SEED") or os.time()

local POLICY = [[
return {
  api = 1,
  authenticate = function(req) return { sub = req.query.as or "nobody" } end,
  subscribe = function(req, who)
    return { topics = { "room/**" }, format = "json", start = req.query.start or "now",
      presence = req.query.as and { topic = "room/members", member = who.sub, data = { is = req.query.data } } }
  end,
  publish = function(pub) return pub end,
}
]]

local function enter(broker, as, data)
  return sse.open(broker, { query = { as = as, data = data } })
end

local function told(ev)
  local e = http.json.decode(ev.data)
  local member = e.topic:match "/members/([^/]*)$"
  return e.data == "" and "-" .. member or "+" .. member .. (e.data.is or "")
end

local function watch(broker)
  local c = sse.open(broker, {})
  return function(n)
    local list = {}
    for i, ev in ipairs(c:collect(n, 60)) do
      list[i] = told(ev)
    end
    return table.concat(list, " ")
  end
end

local function present(broker)
  local c, list = sse.open(broker, { query = { start = "latest" } }), {}
  while true do
    local ev = c:next(60)
    if ev.type == "live" then
      break
    end
    list[#list + 1] = told(ev)
  end
  c:close()
  table.sort(list)
  return table.concat(list, " ")
end

local function is_present(broker, whom)
  eventually(whom .. " are there", function()
    local found = present(broker)
    return found == whom, found
  end, 60)
end

describe("presence in PostgreSQL", function()
  local server = pg.shared {}

  local function pair(presence)
    local db = server():database()
    local function start()
      local b = db:broker { policy = POLICY,
        config = { store = { latest = { "room/members/*" } }, presence = presence or { grace_s = 1, lease_s = 4 } } }
      return b
    end
    return start(), start(), db
  end

  it("is announced once, whichever broker has the streams, and ends with the last of them", function()
    local a, b = pair()
    local at_a, at_b = watch(a), watch(b)
    local first = enter(a, "ann")
    assert.equal("+ann", at_b(1))
    local second = enter(b, "ann")
    enter(b, "bob")
    assert.equal("+bob", at_b(1))
    assert.equal("+ann +bob", at_a(2))
    first:close()
    enter(a, "eve")
    assert.equal("+eve", at_a(1))
    eventually("a has let go of ann", function()
      return a:metric "tidegate_presence_members" == 1
    end)
    is_present(a, "+ann +bob +eve")
    local other = enter(a, "bob", "!") -- data that is new
    assert.equal("+bob!", at_a(1))
    is_present(b, "+ann +bob! +eve")
    other:close()
    second:close()
    assert.equal("-ann", at_a(1))
    assert.equal("+eve +bob! -ann", at_b(3))
    assert.equal(0, a:metric "tidegate_presence_failed_total")
  end)

  it("is right within the lease when a broker is killed; who is elsewhere by then was never away", function()
    local a, b, db = pair { grace_s = 1, lease_s = 6 }
    local at_b = watch(b)
    for _, name in ipairs { "ann", "bob", "eve" } do
      enter(a, name)
    end
    enter(b, "eve")
    at_b(3)
    eventually("both have them", function()
      return db:sql "SELECT count(*) FROM tidegate.presence" == "4"
    end)
    a:kill()
    enter(b, "bob")
    assert.equal("-ann", at_b(1))
    is_present(b, "+bob +eve")
    assert.equal(1, b:metric "tidegate_presence_swept_total")
    assert.equal("1", db:sql "SELECT count(*) FROM tidegate.broker")
  end)

  it("lets the members of a broker that ends go after the grace, not the lease", function()
    local a, b = pair { grace_s = 1, lease_s = 60 }
    local at_b = watch(b)
    enter(a, "ann")
    assert.equal("+ann", at_b(1))
    a:stop()
    assert.equal("-ann", at_b(1))
  end)

  it("announces anew what others took for gone, and nothing that they did not", function()
    local a, b, db = pair()
    local at_b = watch(b)
    enter(a, "ann")
    enter(a, "bob")
    enter(b, "bob")
    at_b(2)
    a:signal "STOP" -- it gives no sign of life, and its streams stay open
    assert.equal("-ann", at_b(1))
    a:signal "CONT"
    assert.equal("+ann", at_b(1))
    is_present(b, "+ann +bob")
    assert.equal(1, a:metric "tidegate_presence_leases_lost_total")
    assert.equal("3", db:sql "SELECT count(*) FROM tidegate.presence")
  end)

  it("does not say again that a member has left, when others were faster to say so", function()
    local a, b, db = pair { grace_s = 1, lease_s = 600 }
    local lock = db:session() -- first: a child has the sockets that are open when it begins
    local at_b = watch(b)
    local ann = enter(a, "ann")
    enter(a, "bob")
    at_b(2)
    lock:run "BEGIN; SELECT FROM tidegate.presence_lock FOR UPDATE;"
    ann:close()
    eventually("it waits to say that ann has left", function()
      return db:sql [[SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
        AND wait_event_type = 'Lock' AND query LIKE '%presence_change%']] == "1"
    end)
    lock:run [[UPDATE tidegate.broker SET until = '-infinity'
                WHERE id = (SELECT broker FROM tidegate.presence WHERE topic = 'room/members/ann');
      SELECT tidegate.presence_sweep((SELECT max(id) FROM tidegate.broker WHERE until > now()), 1000); COMMIT;]]
    lock:close()
    local both = { at_b(1), at_b(1) }
    table.sort(both)
    assert.same({ "-ann", "-bob" }, both)
    assert.equal("+bob", at_b(1))
    enter(a, "last")
    assert.equal("+last", at_b(1))
    is_present(b, "+bob +last")
    assert.equal(1, a:metric "tidegate_presence_leases_lost_total")
    assert.equal(0, a:metric "tidegate_presence_left_total")
  end)

  it("has a member that the database refuses wait alone", function()
    local a, _, db = pair()
    db:sql "ALTER TABLE tidegate.outbox ADD CONSTRAINT nobody CHECK (topic <> 'room/members/nobody')"
    for _, name in ipairs { "ann", "nobody", "bob", "eve" } do
      enter(a, name)
    end
    is_present(a, "+ann +bob +eve")
    assert.is_true(a:metric "tidegate_presence_failed_total" > 0)
    db:sql "ALTER TABLE tidegate.outbox DROP CONSTRAINT nobody"
    is_present(a, "+ann +bob +eve +nobody")
  end)

  -- INSERTs of presence into the outbox fail with that SQLSTATE, where `when` holds.
  local function refuse(db, sqlstate, when)
    db:sql(([[CREATE OR REPLACE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '%s'; END $$;
      CREATE TRIGGER refuse BEFORE INSERT ON tidegate.outbox FOR EACH ROW WHEN (%s) EXECUTE FUNCTION public.refuse()]])
      :format(sqlstate, when or "true"))
    return function() db:sql "DROP TRIGGER refuse ON tidegate.outbox" end
  end

  it("has nobody wait for long behind a lock, a deadlock or a server that is full", function()
    local a, _, db = pair { grace_s = 600, lease_s = 1200 } -- who is taken for refused waits for long
    local there = ""
    for i, sqlstate in ipairs { "55P03", "40P01", "57014", "53100", "25006" } do
      local failed = a:metric "tidegate_presence_failed_total"
      local allow = refuse(db, sqlstate)
      enter(a, "m" .. i)
      eventually("it failed", function()
        return a:metric "tidegate_presence_failed_total" > failed
      end, 60)
      allow()
      there = there .. (i > 1 and " " or "") .. "+m" .. i
      is_present(a, there)
    end
    assert.is_not_nil(a:logged { msg = "what was said of members could not be stored now", sqlstate = "40P01" })
  end)

  it("takes back what it can of a broker that is gone, and stays there itself", function()
    local a, b, db = pair { grace_s = 1, lease_s = 4 }
    local at_b = watch(b)
    for i, name in ipairs { "ann", "bob", "eve" } do
      enter(a, name)
      at_b(1)
      if i == 2 then
        db:sql "ALTER TABLE tidegate.outbox ADD CONSTRAINT nobody CHECK (topic <> 'room/members/ann' OR data <> '')"
      end
    end
    local allow = refuse(db, "53100", "NEW.data = ''")
    a:kill()
    eventually("it says that it cannot take them back", function()
      return b:logged { msg = "members of brokers that are gone cannot be taken back now" }
    end, 60)
    enter(b, "pat")
    assert.equal("+pat", at_b(1))
    assert.equal("4", db:sql "SELECT count(*) FROM tidegate.presence")
    allow()
    local left = { at_b(1), at_b(1) }
    table.sort(left)
    assert.same({ "-bob", "-eve" }, left)
    assert.equal("1", db:sql "SELECT count(*) FROM tidegate.presence")
    assert.equal("room/members/ann", db:sql "SELECT topic FROM tidegate.rejected WHERE reason LIKE '%nobody%'")
    assert.equal(1, b:metric "tidegate_presence_unannounced_total")
    assert.equal(2, b:metric "tidegate_presence_swept_total")
    assert.equal(0, b:metric "tidegate_presence_leases_lost_total")
    assert.equal(0, b:metric "tidegate_presence_failed_total")
  end)

  it("does not wait under its lock for a broker that gives a sign of life late", function()
    local db = server():database()
    db:sql [[INSERT INTO tidegate.broker VALUES (1, now() - interval '1 hour'), (2, now() + interval '1 hour'),
        (3, now() - interval '1 hour');
      INSERT INTO tidegate.presence VALUES ('one', 1, '{}'), ('three', 3, '{}')]]
    local late = db:session()
    late:run "BEGIN; UPDATE tidegate.broker SET until = until WHERE id = 1;"
    local function sweep()
      return db:sql [[SET lock_timeout = '3s';
        SELECT lost::text, swept, more::text, refused, why FROM tidegate.presence_renew(2, 3600000, 10)]]
    end
    assert.equal("false|1|false|0|", sweep())
    late:run "ROLLBACK;"
    late:close()
    assert.equal("false|1|false|0|", sweep())
    assert.equal("2", db:sql "SELECT string_agg(id::text, ' ') FROM tidegate.broker")
  end)

  it("does not ask again and again when its lease runs out while it drains", function()
    local db = server():database()
    local b = db:broker { policy = POLICY, config = { store = { latest = { "room/members/*" } },
      presence = { grace_s = 600, lease_s = 1200 }, drain = { timeout_s = 3 } } }
    enter(b, "ann")
    is_present(b, "+ann")
    -- a sequence, for it counts what is rolled back, too
    db:sql [[CREATE SEQUENCE public.asked; GRANT ALL ON SEQUENCE public.asked TO PUBLIC;
      CREATE OR REPLACE FUNCTION tidegate.presence_change(p_broker bigint, p_topics text[], p_datas text[],
        OUT joined bigint, OUT gone bigint) LANGUAGE plpgsql AS $$
      BEGIN PERFORM nextval('public.asked'), 1 FROM tidegate.presence_lock FOR UPDATE; END $$;
      DELETE FROM tidegate.broker]]
    local lock = db:session()
    lock:run "BEGIN; SELECT FROM tidegate.presence_lock FOR UPDATE;"
    enter(b, "bob")
    local slow = http.connect(b) -- it is waited for
    slow:send(http.render("POST", "/events?topic=a", { ["Content-Length"] = "5" }) .. "he")
    eventually("a request is under way", function() return b:metric "tidegate_http_bodies_bytes" > 0 end)
    b:signal "TERM"
    eventually("it drains", function() return b:logged { msg = "draining" } end)
    lock:run "COMMIT;"
    lock:close()
    b:stop { timeout = 30 }
    local asked = tonumber(db:sql "SELECT last_value FROM public.asked")
    assert.is_true(asked <= 3, asked)
  end)

  -- What was announced of each member, in order: "ann + -".
  local function announced(db)
    return db:sql [[SELECT string_agg(m, ', ' ORDER BY m) FROM (SELECT substr(topic, 14) || ' ' ||
      string_agg(CASE data WHEN '' THEN '-' ELSE '+' END, ' ' ORDER BY seq) m
      FROM tidegate.events WHERE topic LIKE 'room/members/%' GROUP BY topic) x]]
  end

  it("says nothing of members who stay while the database is away for longer than the lease", function()
    local a, b, db = pair { grace_s = 1, lease_s = 8 } -- a broker may take five seconds to connect again
    local at_a, at_b = watch(a), watch(b)
    local pat = enter(a, "pat")
    for i, name in ipairs { "ann", "bob", "eve" } do
      enter(i % 2 == 1 and a or b, name)
    end
    enter(a, "bob")
    at_a(4)
    at_b(4)
    eventually("the database has all of them", function()
      return db:sql "SELECT count(*) FROM tidegate.presence" == "5"
    end)
    server():stop()
    pat:close()
    eventually.pass(7, "for longer than the lease, which is renewed for six seconds")
    server():start()
    assert.equal("-pat", at_a(1))
    assert.equal("-pat", at_b(1))
    enter(b, "sue")
    assert.equal("+sue", at_a(1))
    assert.equal("+sue", at_b(1))
    eventually("nobody waits", function()
      return a:metric "tidegate_presence_waiting" + b:metric "tidegate_presence_waiting" == 0
    end)
    assert.is_true(a:metric "tidegate_presence_leases_lost_total" > 0)
    assert.is_true(b:metric "tidegate_presence_leases_lost_total" > 0)
    is_present(a, "+ann +bob +eve +sue")
    is_present(b, "+ann +bob +eve +sue")
    assert.equal("ann +, bob +, eve +, pat + -, sue +", announced(db))
    assert.equal("5", db:sql "SELECT count(*) FROM tidegate.presence")
    assert.equal("2", db:sql "SELECT count(*) FROM tidegate.broker")
  end)

  -- From now on the clock of that database may leap: db:sql "UPDATE public.leap SET by = '1 hour'".
  local function clock_that_leaps(db)
    db:sql [[CREATE TABLE public.leap AS SELECT interval '0' AS by;
      GRANT SELECT ON public.leap TO PUBLIC;
      ALTER FUNCTION pg_catalog.clock_timestamp() RENAME TO right_clock;
      CREATE FUNCTION pg_catalog.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS
        $$ BEGIN RETURN pg_catalog.right_clock() + (SELECT by FROM public.leap); END $$]]
  end

  it("renews a lease that ran out because the server's clock leapt, before it says more of members", function()
    local db = server():database()
    clock_that_leaps(db)
    local b = db:broker { policy = POLICY, config = { store = { latest = { "room/members/*" } },
      presence = { grace_s = 600, lease_s = 1200 } } } -- a beat every five minutes: this is not what renews it
    local at_b = watch(b)
    enter(b, "ann")
    assert.equal("+ann", at_b(1))
    for i, leap in ipairs { "1 hour", "2 hours", "2 days" } do
      db:sql(("UPDATE public.leap SET by = '%s'"):format(leap))
      assert.equal("f", db:sql "SELECT until > clock_timestamp() FROM tidegate.broker")
      enter(b, "bob" .. i)
      assert.equal("+bob" .. i, at_b(1))
      assert.equal("t", db:sql "SELECT until > clock_timestamp() FROM tidegate.broker")
      assert.equal(i, b:metric "tidegate_presence_leases_lost_total")
    end
    is_present(b, "+ann +bob1 +bob2 +bob3")
    assert.equal(4, b:metric "tidegate_presence_joined_total")
    assert.equal(0, b:metric "tidegate_presence_failed_total")
    eventually("nobody waits", function() return b:metric "tidegate_presence_waiting" == 0 end)
    assert.equal("4", db:sql "SELECT count(*) FROM tidegate.presence")
    assert.equal("1", db:sql "SELECT count(*) FROM tidegate.broker")
  end)

  it("says nothing of members of several brokers when the server's clock leaps, ahead or back", function()
    local db = server():database()
    clock_that_leaps(db)
    local brokers, watchers = {}, {}
    for i, name in ipairs { "ann", "bob" } do
      brokers[i] = db:broker { policy = POLICY, config = { store = { latest = { "room/members/*" } },
        presence = { grace_s = 1, lease_s = 8 } } }
      enter(brokers[i], name)
      is_present(brokers[i], i == 1 and "+ann" or "+ann +bob")
      watchers[i] = watch(brokers[i])
    end
    db:sql "UPDATE public.leap SET by = '1 hour'"
    eventually("both know", function()
      return brokers[1]:metric "tidegate_presence_leases_lost_total" > 0
        and brokers[2]:metric "tidegate_presence_leases_lost_total" > 0
    end)
    db:sql "UPDATE public.leap SET by = '0'"
    eventually("no lease is for longer than one", function()
      return db:sql "SELECT max(until) < clock_timestamp() + interval '8 s' FROM tidegate.broker" == "t"
    end)
    enter(brokers[1], "sue")
    assert.equal("+sue", watchers[2](1))
    brokers[1]:kill()
    local left = { watchers[2](1), watchers[2](1) }
    table.sort(left)
    assert.same({ "-ann", "-sue" }, left)
    assert.equal("ann + -, bob +, sue + -", announced(db))
  end)

  it("waits for the grace when it is started again after the lease", function()
    local db = server():database()
    local b = db:broker { policy = POLICY, config = { store = { latest = { "room/members/*" } },
      presence = { grace_s = 5, lease_s = 4 } } }
    enter(b, "ann")
    enter(b, "bob")
    is_present(b, "+ann +bob")
    b:kill()
    eventually("the lease has run out", function()
      return db:sql "SELECT until <= clock_timestamp() FROM tidegate.broker" == "t"
    end)
    b:start()
    enter(b, "ann")
    local at_b = watch(b)
    assert.equal("-bob", at_b(1))
    is_present(b, "+ann")
    assert.equal("ann +, bob + -", announced(db))
    assert.equal(1, b:metric "tidegate_presence_swept_total")
  end)

  it("is what the streams say, whatever comes and goes, and however often connections break", function()
    math.randomseed(SEED)
    local a, b, db = pair()
    local streams = {}
    for round = 1, 3 do
      for _ = 1, 20 do
        local i = math.random(#streams + 1)
        if i > #streams or math.random(3) > 1 then
          local name = ("m%02d"):format(math.random(12))
          streams[#streams + 1] = { name = name, client = enter(math.random(2) == 1 and a or b, name) }
        else
          streams[i].client:close()
          table.remove(streams, i)
        end
        if math.random(6) == 1 then
          db:sql [[SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                    WHERE datname = current_database() AND application_name = 'tidegate append']]
        end
      end
      local there, names = {}, {}
      for _, s in ipairs(streams) do
        names[#names + 1] = not there[s.name] and "+" .. s.name or nil
        there[s.name] = true
      end
      table.sort(names)
      is_present(round % 2 == 1 and a or b, table.concat(names, " "))
    end
  end)
end)
