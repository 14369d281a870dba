-- What conf/kubernetes and conf/helm say is what Kubernetes understands, and fits together: the chart is rendered by
-- Helm's own template language and library (adapters/chart.go), a compiler compares each document with the types of
-- Kubernetes' API, and the broker is started as the pod would start it. No cluster, and no Helm, has seen them here.
local child = require "support.child"
local eventually = require "support.eventually"
local files = require "support.files"
local http = require "support.http"
local pg = require "support.pg"
local tidegate = require "support.tidegate"
local uv = require "luv"

local BUILD = SPEC_SOURCE_DIR .. "/build/clients"
local FOLDER = SPEC_SOURCE_DIR .. "/conf/"

describe("documents for Kubernetes", function()
  local dir, broker -- the files that `tidegate init` makes

  local function run(path, options)
    options.timeout = 120
    return tidegate.run(assert(child.find(path) or path, "run .ci/deps clients"), options)
  end

  setup(function()
    dir = child.directory()
    broker = dir .. "/broker"
    local code, _, err = run("go", { args = { "build", "-o", dir .. "/chart",
      SPEC_SOURCE_DIR .. "/spec/clients/adapters/chart.go" },
      env = { GO111MODULE = "off", GOPATH = "/usr/share/gocode", GOCACHE = BUILD .. "/go-cache", GOFLAGS = "" } })
    assert.equal(0, code, err)
    code, _, err = run(tidegate.binary(), { args = { "init", broker } })
    assert.equal(0, code, err)
    assert(uv.fs_symlink(BUILD .. "/node_modules", dir .. "/node_modules"))
  end)
  teardown(function()
    child.remove_tree(dir)
  end)

  -- What the chart makes of these values, beside the files of `tidegate init`; or nil and the error.
  local function render(values)
    local all = { config = files.read(broker .. "/tidegate.lua"), policy = files.read(broker .. "/policy.lua"),
      secret = files.read(broker .. "/secret") }
    for key, value in pairs(values or {}) do
      all[key] = value
    end
    local code, out, err = run(dir .. "/chart",
      { args = { FOLDER .. "helm/tidegate", "events", http.json.encode(all) } })
    if code ~= 0 then
      return nil, err
    end
    return http.json.decode(out)
  end

  local function of_kind(documents, kind)
    for _, document in ipairs(documents) do
      if document.kind == kind then
        return document
      end
    end
  end

  local MODULES = { Secret = "core/v1", Service = "core/v1", StatefulSet = "apps/v1", Deployment = "apps/v1" }

  -- Whether they are what Kubernetes' types say; else what is not.
  local function fit_types(documents)
    local text = {}
    for i, document in ipairs(documents) do
      local module = assert(MODULES[document.kind], document.kind)
      assert.equal((module:gsub("^core/", "")), document.apiVersion)
      text[i] = ('import { %s as T%d } from "kubernetes-types/%s";\nexport const d%d: T%d = %s;\n'):format(
        document.kind, i, module, i, i, http.json.encode(document))
    end
    files.write(dir .. "/documents.ts", table.concat(text))
    files.write(dir .. "/tsconfig.json", [[{ "files": ["documents.ts"], "compilerOptions": {
      "noEmit": true, "strict": true, "skipLibCheck": true, "moduleResolution": "node", "types": [] } }]])
    local code, out = run("tsc", { args = { "-p", dir } })
    return (code == 0) == (out == "") and out or "tsc ended with " .. code .. out
  end

  -- Names that one part gives and another uses. `outside`: secrets and config maps that are made before.
  local function assert_fits(documents, outside)
    local set = assert(of_kind(documents, "StatefulSet") or of_kind(documents, "Deployment"))
    local service, pod = of_kind(documents, "Service"), set.spec.template
    local container = pod.spec.containers[1]
    assert.same(set.spec.selector.matchLabels, pod.metadata.labels)
    assert.same(service.spec.selector, pod.metadata.labels)
    assert.equal(set.kind == "StatefulSet" and service.metadata.name or nil, set.spec.serviceName)
    local ports, volumes = {}, {}
    for _, port in ipairs(container.ports) do
      ports[port.name] = port.containerPort
    end
    assert.is_number(ports[service.spec.ports[1].targetPort])
    for _, name in ipairs { "livenessProbe", "readinessProbe", "startupProbe" } do
      assert.is_number(ports[container[name].httpGet.port], name)
    end
    assert.equal(tostring(ports.probes), pod.metadata.annotations["prometheus.io/port"])
    for _, volume in ipairs(pod.spec.volumes) do
      volumes[volume.name] = volume
    end
    for _, claim in ipairs(set.spec.volumeClaimTemplates or {}) do
      volumes[claim.metadata.name] = claim
    end
    local mounted = {}
    for _, mount in ipairs(container.volumeMounts) do
      assert.is_table(volumes[mount.name], mount.name)
      mounted[mount.mountPath] = volumes[mount.name]
    end
    assert.is_table(mounted["/var/lib/tidegate"])
    local conf, secret = mounted["/etc/tidegate"], of_kind(documents, "Secret")
    if secret then
      assert.equal(secret.metadata.name, conf.secret.secretName)
    else
      for _, source in ipairs(conf.projected.sources) do
        assert.equal(outside, (source.configMap or source.secret).name)
      end
    end
    return set, container, secret
  end

  -- Starts the broker with the pod's variables and files, and asks its probes.
  local function assert_serves(container, conf, image, secret)
    local env, port = { TIDEGATE_CONF = conf .. "/tidegate.lua", TIDEGATE_ADMIN = "127.0.0.1:0" }, child.free_port()
    for name, value in pairs(image) do
      env[name] = value
    end
    for _, variable in ipairs(container.env) do
      local from = variable.valueFrom and variable.valueFrom.secretKeyRef
      env[variable.name] = from and assert(secret.stringData[from.key], from.key) or variable.value
    end
    env.TIDEGATE_ADMIN_PUBLIC = assert(env.TIDEGATE_ADMIN_PUBLIC):gsub(":9090$", ":" .. port)
    local process = child.start(tidegate.binary(), { "serve" }, { env = env })
    finally(function() process:stop() end)
    for _, name in ipairs { "startupProbe", "livenessProbe", "readinessProbe" } do
      eventually(name .. " succeeds", function()
        local ok, r = pcall(http.get, { host = "127.0.0.1", port = port }, container[name].httpGet.path)
        return ok and r.status == 200, process:errors()
      end, 60)
    end
    assert.matches("msg=listening address=[%d.:]+ server=public", process:errors())
  end

  -- Of the Containerfile.
  local function image(store)
    assert.matches("ENV TIDEGATE_CONF=/etc/tidegate/tidegate.lua TIDEGATE_LISTEN=0.0.0.0:8080 "
      .. "TIDEGATE_STORE=/var/lib/tidegate\n", files.read(FOLDER .. "container/Containerfile"), 1, true)
    return { TIDEGATE_LISTEN = "0.0.0.0:" .. child.free_port(), TIDEGATE_STORE = store }
  end

  it("of one broker are right, and it starts with them", function()
    local code, out, err = run(dir .. "/chart", { args = { FOLDER .. "kubernetes/tidegate.yaml" } })
    assert.equal(0, code, err)
    local documents = http.json.decode(out)
    assert.equal("", fit_types(documents))
    local _, container = assert_fits(documents, "tidegate")
    assert_serves(container, broker, image(dir .. "/store-1"))
  end)

  it("of the chart are right for SQLite, and the broker starts with them", function()
    local documents = assert(render())
    assert.equal("", fit_types(documents))
    local set, container, secret = assert_fits(documents)
    assert.same({ "StatefulSet", 1 }, { set.kind, set.spec.replicas })
    local conf = dir .. "/conf"
    assert(uv.fs_mkdir(conf, 448))
    for name, text in pairs(secret.stringData) do
      files.write(conf .. "/" .. name, text)
    end
    for _, name in ipairs { "tidegate.lua", "policy.lua", "secret" } do
      assert.equal(files.read(broker .. "/" .. name), secret.stringData[name])
    end
    assert_serves(container, conf, image(dir .. "/store-2"))
  end)

  describe("of the chart for PostgreSQL", function()
    local server = pg.shared {}

    it("are right, and the broker starts with them", function()
      local db = server():database()
      local documents = assert(render { replicas = 3, postgres = ("host=127.0.0.1 port=%d dbname=%s user=%s"):format(
        server().port, db.name, pg.OWNER) })
      assert.equal("", fit_types(documents))
      local set, container, secret = assert_fits(documents)
      assert.same({ "Deployment", 3 }, { set.kind, set.spec.replicas })
      assert_serves(container, broker, image(), secret)
    end)
  end)

  it("of the chart are refused where they could not work, with what to do", function()
    for values, why in pairs {
      [{ replicas = 2 }] = "replicas above 1 need postgres", [{ config = "" }] = "config: %-%-set%-file config=",
      [{ policy = "" }] = "policy: %-%-set%-file policy=", [{ secret = "" }] = "secret: %-%-set%-file secret=",
    } do
      local documents, err = render(values)
      assert.is_nil(documents)
      assert.matches(why, err)
    end
  end)

  it("of the chart replace the pods for another configuration, not for a policy, and quote what they hold", function()
    local function sum(values)
      return of_kind(assert(render(values)), "StatefulSet").spec.template.metadata.annotations["checksum/config"]
    end
    local before = sum()
    assert.equal(before, sum { policy = "return {}" })
    assert.is_true(before ~= sum { config = "return {}" } and before ~= sum { secret = "another" })
    local text = 'a: "{{ .Values.secret }}"\n---\n\t# ü \\ \' %s\n'
    assert.equal(text, of_kind(assert(render { policy = text }), "Secret").stringData["policy.lua"])
  end)

  it("would be found wrong with a name or a type that Kubernetes does not know", function()
    local documents = assert(render())
    local container = of_kind(documents, "StatefulSet").spec.template.spec.containers[1]
    container.livenesProbe = container.livenessProbe
    assert.matches("livenesProbe", fit_types(documents))
    container.livenesProbe, container.ports = nil, "8080"
    assert.matches("type 'ContainerPort%[%]'", fit_types(documents))
  end)

  it("and for Compose name what they have, and hand the password over in a file", function()
    local code, out, err = run(dir .. "/chart", { args = { FOLDER .. "container/compose.yml" } })
    assert.equal(0, code, err)
    local compose = http.json.decode(out)[1]
    local count = 0
    for _, service in pairs(compose.services) do
      for _, name in ipairs(service.secrets) do
        count = count + 1
        assert.is_table(compose.secrets[name], name)
      end
      for _, volume in ipairs(service.volumes) do
        local name = volume:match "^([%w-]+):"
        assert.is_true(name == nil or compose.volumes[name] ~= nil, volume)
      end
      for name in pairs(service.depends_on or {}) do
        assert.is_table(compose.services[name].healthcheck, name)
      end
    end
    assert.equal(2, count)
    assert.truthy(uv.fs_stat(FOLDER .. "container/" .. compose.services.broker.build.context .. "/"
      .. compose.services.broker.build.dockerfile))
    -- the entry point, with a folder for / and a broker that only ends
    local root, entry = dir .. "/root", compose.services.broker.entrypoint
    assert.same({ "/bin/sh", "-c" }, { entry[1], entry[2] })
    for _, path in ipairs { root, root .. "/secrets", root .. "/bin" } do
      assert(uv.fs_mkdir(path, 448))
    end
    files.write(root .. "/secrets/postgres-password", "p%s:w\\")
    assert(uv.fs_symlink("/bin/true", root .. "/bin/tidegate"))
    local script = entry[3]:gsub("%$%$", "$"):gsub("/run/secrets", root .. "/secrets")
      :gsub("/tmp/pgpass", root .. "/pgpass")
    code, out, err = run("sh", { args = { "-c", script }, env = { PATH = root .. "/bin:" .. os.getenv "PATH" } })
    assert.equal(0, code, out .. err)
    assert.equal("postgres:5432:app:tidegate:p%s\\:w\\\\\n", files.read(root .. "/pgpass"))
    assert.equal(384, uv.fs_stat(root .. "/pgpass").mode & 511) -- 0600, or libpq does not read it
    local service = compose.services.postgres.environment
    assert.equal(("host=postgres dbname=%s user=%s passfile=/tmp/pgpass"):format(service.POSTGRES_DB,
      service.POSTGRES_USER), compose.services.broker.environment.TIDEGATE_STORE)
  end)
end)
