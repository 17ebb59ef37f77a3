-- access_by_lua for nginx-lua.conf.
local cjson = require("cjson.safe")
local claims = require("claims")
local lrucache = require("resty.lrucache")
local semaphore = require("ngx.semaphore")

local M = {}
local active, inactive, flights = nil, nil, {}
local host, port, credential

function M.init(h, p, c, entries)
  host, port, credential = h, p, c
  active, inactive = lrucache.new(entries), lrucache.new(10000)
end

local function ask(token)
  local socket = ngx.socket.tcp()
  socket:settimeouts(1000, 5000, 5000)
  local ok = socket:connect(host, port)
  if not ok then
    return nil
  end
  local body = "token=" .. ngx.escape_uri(token) .. "&token_type_hint=access_token"
  socket:send("POST /introspect HTTP/1.1\r\nHost: " .. host .. "\r\nAuthorization: Bearer " .. credential ..
    "\r\nContent-Type: application/x-www-form-urlencoded\r\nAccept: application/json\r\nContent-Length: " ..
    #body .. "\r\n\r\n" .. body)
  local line, length = socket:receive("*l"), nil
  if not line or not line:find("^HTTP/1.1 200") then
    socket:close()
    return nil
  end
  while true do
    line = socket:receive("*l")
    if not line or line == "" then
      break
    end
    length = line:lower():match("^content%-length: *(%d+)") or length
  end
  local response = length and cjson.decode(socket:receive(tonumber(length)) or "")
  socket:setkeepalive(60000, 64)
  return type(response) == "table" and type(response.active) == "boolean" and response or nil
end

-- fly asks once on behalf of all who wait for the token.
local function fly(token)
  local flight = flights[token]
  if flight then
    flight.waiting = flight.waiting + 1
    flight.done:wait(10)
    return
  end
  flight = { done = semaphore.new(), waiting = 0 }
  flights[token] = flight
  local response = ask(token)
  if response then
    local now = ngx.time()
    local expires, values = claims.read(response, now, cjson.encode)
    if values then
      local names, texts = {}, {} -- arrays, which LuaJIT compiles the loop over
      for name, value in pairs(values) do
        names[#names + 1], texts[#texts + 1] = "launch_" .. name, value
      end
      active:set(token, { names, texts }, expires - now)
    else
      inactive:set(token, true, 5)
    end
  end
  flights[token] = nil
  if flight.waiting > 0 then
    flight.done:post(flight.waiting)
  end
end

function M.access()
  local token = ngx.var.bearer
  if not token or token == "" then
    return ngx.exit(401)
  end
  local values = active:get(token)
  if not values and not inactive:get(token) then
    fly(token)
    values = active:get(token)
    if not values and not inactive:get(token) then
      return ngx.exit(503)
    end
  end
  if not values then
    return ngx.exit(401)
  end
  local var, names, texts = ngx.var, values[1], values[2]
  for i = 1, #names do
    var[names[i]] = texts[i]
  end
end

return M
