-- What an introspection response becomes: the pairs of header name and value that the
-- FHIR server gets. For nginx with Lua and HAProxy with Lua alike.
local claims = {}

local function bare(kind, reference)
  local id = tostring(reference):gsub("^" .. kind .. "/", "")
  return #id <= 64 and id:match("^[A-Za-z0-9.-]+$")
end

local function text(value)
  return (tostring(value):gsub("[%z\1-\31%%\127-\255]", function(c) return string.format("%%%02X", c:byte()) end))
end

-- read returns the time until which the verdict may be believed and the values by name,
-- or nothing for a token that isn't active. encode writes JSON.
function claims.read(c, now, encode)
  if not c.active or c.exp and c.exp <= now or c.nbf and c.nbf > now + 5 or c.iat and c.iat > now + 5 then
    return nil
  end
  local values = {}
  values.patient = c.patient and bare("Patient", c.patient)
  values.encounter = c.encounter and bare("Encounter", c.encounter)
  for name, value in pairs({
    user = c.fhirUser or c.user, intent = c.intent, tenant = c.tenant, subject = c.sub, issuer = c.iss,
    client_id = c.client_id or c.azp, scope = c.scope,
  }) do
    values[name] = text(value)
  end
  if c.fhirContext then
    local items = {}
    for _, item in ipairs(c.fhirContext) do
      items[#items + 1] = type(item) == "string" and { reference = item } or item
    end
    values.fhir_context = encode(items):gsub("\\/", "/")
  end
  values.expires = c.exp and string.format("%d", c.exp)
  return c.exp or now + 30, values
end

return claims
