-- TLS in specs: an authority with certificates made by the openssl command, and a client on top of a plain socket.
--
--   local ca = tls.authority()                               -- removed after the spec file: ca:remove()
--   local cert = ca:issue { names = { "a.example" } }        -- cert.cert, cert.key: paths; cert.serial
--   broker.tls = { ca = ca.cert, name = "a.example" }        -- sse.open(broker), http.post(broker, ...) use TLS now
local eventually = require "support.eventually"
local files = require "support.files"
local native = require "native.tls"
local socket = require "socket"
local uv = require "luv"

local M = {}

----------------------------------------------------------------- certificates
local authority = {}
authority.__index = authority

-- A command of the shell that must succeed.
local function run(command)
  local p = assert(io.popen(command .. " 2>&1"))
  local text = p:read "a"
  assert(p:close(), command .. "\n" .. text)
end

-- An authority of its own, in a directory of its own.
function M.authority(name)
  local dir = assert(uv.fs_mkdtemp((os.getenv "TMPDIR" or "/tmp") .. "/tidegate-ca-XXXXXX"))
  local self = setmetatable({ dir = dir, cert = dir .. "/ca.pem", key = dir .. "/ca.key", serial = 1000 }, authority)
  run(("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj '/CN=%s' -keyout %s "
    .. "-out %s"):format(name or "spec authority", self.key, self.cert))
  return self
end

-- options: names (DNS), subject ("/CN=x"), days (negative: expired), key = "rsa", client = true, san (text), file
function authority:issue(options)
  self.serial = self.serial + 1
  local base = ("%s/%s"):format(self.dir, options.file or self.serial)
  local out = { cert = base .. ".pem", key = base .. ".key", serial = self.serial }
  local sans = options.san and { options.san } or {}
  for _, name in ipairs(options.names or {}) do
    sans[#sans + 1] = "DNS:" .. name
  end
  local extensions = { "basicConstraints=CA:FALSE" }
  extensions[2] = "extendedKeyUsage=" .. (options.client and "clientAuth" or "serverAuth")
  extensions[3] = #sans > 0 and "subjectAltName=" .. table.concat(sans, ",") or nil
  files.write(base .. ".ext", table.concat(extensions, "\n") .. "\n")
  local key = options.key == "rsa" and "rsa:2048" or "ec -pkeyopt ec_paramgen_curve:P-256"
  run(("openssl req -newkey %s -nodes -subj '%s' -keyout %s -out %s.csr"):format(key, options.subject or "/CN=spec",
    out.key, base))
  run(("openssl x509 -req -in %s.csr -CA %s -CAkey %s -set_serial %d -days %d -extfile %s.ext -out %s"):format(base,
    self.cert, self.key, self.serial, options.days or 30, base, out.cert))
  files.write(out.cert, files.read(out.cert) .. files.read(self.cert))
  return out
end

M.run = run

-- Puts a copy of the file `from` in the place of `to`, whole at once.
function M.replace(from, to)
  files.write(to .. ".new", files.read(from))
  assert(os.rename(to .. ".new", to))
end

function authority:remove()
  run("rm -rf " .. self.dir)
end

-- What the configuration of a listener says.
function M.listener(certs, more)
  local entry = { address = "127.0.0.1:0", tls = {} }
  for i, cert in ipairs(certs) do
    entry.tls[i] = { cert = cert.cert, key = cert.key, names = cert.names }
  end
  for k, v in pairs(more or {}) do
    entry[k] = v
  end
  return entry
end

----------------------------------------------------------------- the client
local conn = {}
conn.__index = conn

-- Makes TLS on the connected socket `s`; has the methods of that which specs use. nil, error when the handshake fails.
-- options: ca, cert, key (paths), name (SNI, verified), alpn (list), max ("1.2"), suites (of TLS 1.3), session
function M.wrap(s, options, timeout)
  local alpn
  for _, name in ipairs(options.alpn or {}) do
    alpn = (alpn or "") .. string.char(#name) .. name
  end
  local context = assert(native.context { ca = options.ca, cert = options.cert, key = options.key, alpn = alpn,
    max = options.max, suites = options.suites })
  s:settimeout(0)
  local tls = assert(native.connect(context, s:getfd(), options.name, options.session))
  local deadline = eventually.deadline(timeout or 10)
  while true do
    local ok, why = tls:handshake()
    if ok then
      return setmetatable({ socket = s, tls = tls }, conn)
    elseif why ~= "read" and why ~= "write" then
      return nil, why
    elseif eventually.now() > deadline then
      return nil, "timeout"
    end
    socket.select(why == "read" and { s } or nil, why == "write" and { s } or nil, 0.2)
  end
end

function conn:getfd()
  return self.socket:getfd()
end

function conn.settimeout()
end

function conn:setoption(...)
  return self.socket:setoption(...)
end

function conn:send(bytes, from)
  return self.tls:send(bytes, from or 1)
end

function conn:receive(most)
  return self.tls:receive(most)
end

function conn:shutdown(how)
  self.tls:shutdown()
  return self.socket:shutdown(how)
end

function conn:info()
  return self.tls:info()
end

-- `quietly`: the other side is not told (close_notify).
function conn:close(quietly)
  if self.tls then
    if not quietly then
      self.tls:shutdown()
    end
    self.tls:free()
    self.tls = nil
    self.socket:close()
  end
end

return M
