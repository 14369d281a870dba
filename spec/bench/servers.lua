-- The servers that spec/bench/run.lua starts. Each is
--   { name, available = function(tidegate, the binary) -> what is missing or nil
--     command = function(place) -> program, { arguments }
--     paths = { publish, subscribe, replay (nil: it keeps no history) } for `tidegate-bench`, which fills in {topic}
--     restart = function(place) -> a command for sh (those who have one) }
-- `place` is { dir (empty, for its files), port, tidegate (the binary), root (of the tree), policy (file, or nil),
-- workers and log_events (how many, or nil), addresses (to listen on, or nil), tls (nil, or { cert, key, pem (both of
-- them) }, files: it is to speak TLS), latest (patterns of store.latest, or nil), h2 (true: HTTP/2 as well, with
-- TLS), gzip (true: streams may be compressed) }.
-- `tls_only`, `plain_only`: it takes part only in what is about TLS, or not.
-- More of them can be put into a file of this form and given to run.lua with --also.
local uv = require "luv"

local function write(path, text)
  local f = assert(io.open(path, "w"))
  f:write(text)
  assert(f:close())
end

local tidegate = {
  name = "tidegate",
  paths = {
    publish = "/events?topic=bench/{topic}", subscribe = "/events?topic=bench/{topic}",
    replay = "/events?topic=bench/{topic}&last_event_id=earliest",
  },
  available = function() end,
}

function tidegate.command(place)
  local listen = {}
  for i, address in ipairs(place.addresses or { "127.0.0.1" }) do
    listen[i] = ("%q"):format(address .. ":" .. place.port)
    if place.tls then
      listen[i] = ("{ address = %s, tls = { { cert = %q, key = %q } } }"):format(listen[i], place.tls.cert,
        place.tls.key)
    end
  end
  write(place.dir .. "/bench.lua", ([[
return {
  listen = { %s },
  admin = "unix:%s/admin",
  workers = %d,
  event_log = { max_events = %d },
  store = { path = "store", latest = { %s } },
  policy = { file = %q, auth = "open" },
  keys = { bench = { secret = "a secret of the benchmarks, no other use" } },
  limits = { max_connections = 19500 },
  log = { level = "warn" },
  compress = { gzip = %s, min_members = 1 },
}
]]):format(table.concat(listen, ", "), place.dir, place.workers or 1, place.log_events or 65536,
    place.latest or "", place.policy or place.root .. "/scripts/policies/open.lua", place.gzip or false))
  local single = (place.workers or 1) == 1 and "--single" or nil -- what is measured is the process itself
  return place.tidegate, { "serve", place.dir .. "/bench.lua", single }
end

-- For --restart-command: returns when every worker is a new one.
function tidegate.restart(place)
  return ("%q restart %q"):format(place.tidegate, place.dir .. "/bench.lua")
end

local NGINX, MODULE = "/usr/sbin/nginx", "/usr/lib/nginx/modules/ngx_nchan_module.so"

local nchan = {
  name = "nchan",
  paths = { publish = "/pub/{topic}", subscribe = "/sub/{topic}", replay = "/all/{topic}" },
}

function nchan.available()
  for _, path in ipairs { NGINX, MODULE } do
    if not uv.fs_stat(path) then
      return path .. " is not there (Debian: nginx-light libnginx-mod-nchan)"
    end
  end
end

-- One worker; messages in memory only, as nchan does it best.
function nchan.command(place)
  write(place.dir .. "/nginx.conf", (([[
load_module MODULE;
daemon off;
USER
worker_processes 1;
worker_rlimit_nofile 20000;
pid DIR/pid;
error_log DIR/error.log crit;
events { worker_connections 22000; multi_accept on; }
http {
  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  client_body_buffer_size 64k;
  client_max_body_size 1m;
  client_body_temp_path DIR/body;
  proxy_temp_path DIR/proxy;
  fastcgi_temp_path DIR/fastcgi;
  uwsgi_temp_path DIR/uwsgi;
  scgi_temp_path DIR/scgi;
  nchan_shared_memory_size 1G;
  server {
    listen 127.0.0.1:PORT TLS backlog=4096;
    CERTIFICATE
    location ~ ^/pub/([\w-]+)$ {
      nchan_publisher http;
      nchan_channel_id $1;
      nchan_message_buffer_length 100000;
      nchan_message_timeout 1h;
    }
    location ~ ^/sub/([\w-]+)$ {
      nchan_subscriber eventsource;
      nchan_channel_id $1;
      nchan_subscriber_first_message newest;
    }
    location ~ ^/all/([\w-]+)$ {
      nchan_subscriber eventsource;
      nchan_channel_id $1;
      nchan_subscriber_first_message oldest;
    }
  }
}
]]):gsub("MODULE", MODULE):gsub("USER", uv.getuid() == 0 and "user root;" or ""):gsub("DIR", place.dir)
    :gsub("PORT", tostring(place.port)):gsub("TLS", place.tls and (place.h2 and "ssl http2" or "ssl") or "")
    :gsub("CERTIFICATE", place.tls and ("ssl_certificate %s; ssl_certificate_key %s; ssl_buffer_size 4k;"):format(
      place.tls.cert, place.tls.key) or "")))
  return NGINX, { "-p", place.dir, "-c", place.dir .. "/nginx.conf", "-e", place.dir .. "/error.log" }
end

-- Tidegate without TLS behind HAProxy, which has it. One process group: what both of them use counts.
local haproxy = { name = "haproxy", tls_only = true, paths = tidegate.paths }

function haproxy.available()
  return not uv.fs_stat "/usr/sbin/haproxy" and "/usr/sbin/haproxy is not there (Debian: haproxy)" or nil
end

function haproxy.command(place)
  local inner = setmetatable({ tls = false, port = place.inner_port }, { __index = place })
  local program, args = tidegate.command(inner)
  write(place.dir .. "/haproxy.cfg", ([[
global
  maxconn 9000
  nbthread 1
  tune.ssl.default-dh-param 2048
defaults
  mode http
  maxconn 9000
  timeout connect 5s
  timeout client 1h
  timeout server 1h
frontend tls
  bind 127.0.0.1:%d ssl crt %s alpn h2,http/1.1 backlog 4096
  default_backend own
backend own
  server own 127.0.0.1:%d
]]):format(place.port, place.tls.pem, place.inner_port))
  -- the broker ends with it
  return "/bin/sh", { "-c", ('setpriv --pdeathsig TERM "$@" & exec /usr/sbin/haproxy -db -f "%s/haproxy.cfg"')
    :format(place.dir), "sh", program, table.unpack(args) }
end

-- What the machine allows: see limit.c.
local function limit(mode)
  local function program(binary)
    return (binary:match "^(.*/)" or "./") .. "tidegate_limit"
  end
  return {
    name = "limit-" .. mode, plain_only = true,
    paths = { publish = "/?topic={topic}", subscribe = "/?topic={topic}" },
    available = function(binary)
      local path = program(binary)
      return not uv.fs_access(path, "X") and path .. " is not there (make bench builds it)" or nil
    end,
    command = function(place) return program(place.tidegate), { tostring(place.port), mode } end,
  }
end

return { tidegate, nchan, haproxy, limit "coalesce", limit "send" }
