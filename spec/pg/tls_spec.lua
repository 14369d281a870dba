-- TLS to PostgreSQL, by the parameters of libpq: a server with ssl=on and a certificate of a throwaway authority.
local child = require "support.child"
local http = require "support.http"
local pg = require "support.pg"
local programs = require "support.pg_programs"
local tidegate = require "support.tidegate"
local uv = require "luv"

local function openssl(dir, ...)
  local code, out, err = tidegate.run(assert(child.find "openssl", "openssl (package openssl) is not installed"),
    { args = { ... }, cwd = dir, timeout = 30 })
  assert(code == 0, out .. err)
end

-- NAME.key and NAME.crt of an authority
local function authority(dir, name)
  openssl(dir, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=" .. name,
    "-keyout", name .. ".key", "-out", name .. ".crt")
end

-- server.key and server.crt for the host `localhost`, signed by the authority `name`, readable by the server
local function server_certificate(dir, name)
  local f = assert(io.open(dir .. "/server.ext", "wb"))
  assert(f:write "subjectAltName=DNS:localhost\n")
  f:close()
  openssl(dir, "req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-keyout", "server.key",
    "-out", "server.csr")
  openssl(dir, "x509", "-req", "-in", "server.csr", "-CA", name .. ".crt", "-CAkey", name .. ".key", "-CAcreateserial",
    "-days", "2", "-extfile", "server.ext", "-out", "server.crt")
  assert(uv.fs_chmod(dir .. "/server.key", 384))
  if programs.root then
    local uid, gid = programs.account "postgres"
    for _, path in ipairs { "", "/server.key", "/server.crt" } do
      assert(uv.fs_chown(dir .. path, uid, gid))
    end
  end
end

describe("TLS to PostgreSQL", function()
  local dir, server, db
  setup(function()
    dir = child.directory()
    authority(dir, "ours")
    authority(dir, "theirs")
    server_certificate(dir, "ours")
  end)
  teardown(function() child.remove_tree(dir) end)
  before_each(function()
    server = pg.start { settings = { ssl = "on", ssl_cert_file = dir .. "/server.crt",
      ssl_key_file = dir .. "/server.key" } }
    db = server:database { schema = false }
  end)

  local function store(parameters, host)
    return { conninfo = ("host=%s hostaddr=127.0.0.1 port=%d user=%s dbname=%s %s"):format(host or "localhost",
      server.port, pg.OWNER, db.name, parameters) }
  end

  it("is used on every connection when it is asked for, and the server is who it should be", function()
    for _, parameters in ipairs { "sslmode=require", "sslmode=verify-full sslrootcert=" .. dir .. "/ours.crt" } do
      local broker = db:broker { config = { store = store(parameters) } }
      assert.equal(201, http.post(broker, "/events?topic=t", "x").status)
      assert.equal("t", db:sql(("SELECT bool_and(ssl) AND count(*) > 1 FROM pg_stat_ssl "
        .. "JOIN pg_stat_activity USING (pid) WHERE usename = '%s'"):format(pg.OWNER)))
      broker:stop()
    end
  end)

  it("is refused when the server is somebody else, with a text that says so", function()
    for parameters, expected in pairs {
      ["sslmode=verify-full sslrootcert=" .. dir .. "/theirs.crt"] = "certificate verify failed",
      ["sslmode=verify-ca sslrootcert=" .. dir .. "/theirs.crt"] = "certificate verify failed",
      ["sslmode=verify-full sslrootcert=" .. dir .. "/none.crt"] = "none.crt",
    } do
      local code, _, err = db:migrate { config = { store = store(parameters) } }
      assert.is_true(code ~= 0)
      assert.matches(expected, err, 1, true)
    end
    local code, _, err = db:migrate { config = { store = store("sslmode=verify-full sslrootcert=" .. dir .. "/ours.crt",
      "db.example") } }
    assert.is_true(code ~= 0)
    assert.matches('does not match host name "db.example"', err, 1, true)
  end)

  it("is refused when the server has none", function()
    server.settings.ssl = "off"
    server:restart()
    local code, _, err = db:migrate { config = { store = store "sslmode=require" } }
    assert.is_true(code ~= 0)
    assert.matches("does not support SSL", err, 1, true)
  end)
end)
