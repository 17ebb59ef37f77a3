-- The action of haproxy.cfg.
local cjson = require("cjson.safe")
local claims = require("claims")

local endpoint = "http://127.0.0.1:" .. os.getenv("INTROSPECTION_PORT") .. "/introspect"
local credential = os.getenv("CREDENTIAL")
local limit = 50000
local verdicts, count = {}, 0

-- keep forgets everything when it is full: an LRU would cost each hit more than it
-- saves in this benchmark.
local function keep(token, verdict)
  if count >= limit then
    verdicts, count = {}, 0
  end
  verdicts[token], count = verdict, count + 1
end

local function refuse(txn, status)
  local reply = txn:reply({ status = status })
  txn:done(reply)
end

local function ask(token, now)
  local response = core.httpclient():post({
    url = endpoint,
    headers = {
      ["authorization"] = { "Bearer " .. credential },
      ["content-type"] = { "application/x-www-form-urlencoded" },
      ["accept"] = { "application/json" },
    },
    body = "token=" .. token:gsub("[^A-Za-z0-9._~-]", function(c) return string.format("%%%02X", c:byte()) end) ..
      "&token_type_hint=access_token",
  })
  local body = response and response.status == 200 and cjson.decode(response.body)
  if type(body) ~= "table" or type(body.active) ~= "boolean" then
    return nil
  end
  local expires, values = claims.read(body, now, cjson.encode)
  return { expires = expires or now + 5, values = values }
end

core.register_action("introspect", { "http-req" }, function(txn)
  local header = txn.http:req_get_headers()["authorization"]
  local token = header and not header[1] and header[0]:match("^[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9._~+/-]+=*)$")
  if not token then
    return refuse(txn, 401)
  end
  local now = core.now().sec
  local verdict = verdicts[token]
  if not verdict or now >= verdict.expires then
    verdict = ask(token, now)
    if not verdict then
      return refuse(txn, 503)
    end
    keep(token, verdict)
  end
  if not verdict.values then
    return refuse(txn, 401)
  end
  for name, value in pairs(verdict.values) do
    txn:set_var("txn." .. name, value)
  end
end, 0)
