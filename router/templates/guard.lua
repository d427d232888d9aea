-- Asks for the passwords of guarded domains. Written by Mooring: edit nothing here.
--
-- Runs for requests to pools that have guards, whose text is in the variable txn.guards. Whoever may go on is shown
-- by taking that variable away; who leaves it, by an error too, is answered with 401 and the header in txn.challenge.

local REALM = "protected"
local LIFE = 300 -- seconds that a nonce is good for; clients then take a newer one without asking anybody
local AHEAD = 5 -- seconds that a clock may be set back

-- The map that HAProxy itself looks wildcards up in: changes at run time show here.
local wildcards = Map.new("wildcards.map", Map._str)

-- A nonce is good for the process that made it, as nothing else knows this.
local random = assert(io.open("/dev/urandom", "rb"))
local secret = assert(random:read(32))
random:close()

local known = {} -- slot to the last text of its guards, and what it says

local function same(one, other)
    if #one ~= #other then return false end
    local difference = 0 -- all of it is looked at, so that the time tells nothing of where they differ
    for at = 1, #one do difference = difference | (one:byte(at) ~ other:byte(at)) end
    return difference == 0
end

local function hex(txn, bytes) return txn.c:lower(txn.c:hex(bytes)) end
local function md5(txn, ...) return hex(txn, txn.c:digest(table.concat({...}, ":"), "md5")) end
local function sha256(txn, text) return hex(txn, txn.c:sha2(text, 256)) end

-- Domain to {mode, users}, where users maps names to hashes.
local function guards_of(txn)
    local slot, text = txn.f:be_name(), txn:get_var("txn.guards")
    if known[slot] and known[slot].text == text then return known[slot].guards end
    local guards = {}
    for line in txn.c:ub64dec(text):gmatch("[^\n]+") do
        local mode, domains, rest = assert(line:match("^(%S+) (%S+) (%S.*)$"))
        local users = {}
        for name, hash in rest:gmatch("([^ =]+)=(%S+)") do users[name] = hash end
        for domain in domains:gmatch("[^,]+") do guards[domain] = {mode = mode, users = users} end
    end
    assert(next(guards))
    known[slot] = {text = text, guards = guards}
    return guards
end

-- The domain by which the frontend led the request here; fails where that is being changed just now.
local function domain_of(txn)
    local host = txn.c:lower(txn.c:host_only(txn.f:req_hdr("host")))
    if txn:get_var("txn.slot") then return host end
    local suffix = host:match("^[^.]*%.(.+)$")
    while suffix and not wildcards:lookup(suffix) do suffix = suffix:match("^[^.]*%.(.+)$") end
    return "*." .. assert(suffix)
end

-- Scheme, in small letters, and what follows it.
local function credentials_of(txn)
    local found = txn.http:req_get_headers()["authorization"]
    if not found or found[1] then return "", "" end -- of two, the app could take the other one
    local scheme, rest = found[0]:match("^(%a+)%s+(.+)$")
    return (scheme or ""):lower(), rest or ""
end

local function knows_basic(txn, users, said)
    local name, password = (txn.c:b64dec(said) or ""):match("^([^:]*):(.*)$")
    local salt, hash = (users[name or ""] or "$"):match("^(.*)%$(.*)$")
    return same(sha256(txn, salt .. (password or "")), hash)
end

local function nonce_of(txn, moment)
    return moment .. "-" .. hex(txn, txn.c:hmac(moment, "sha256", txn.c:base64(secret)))
end

local function is_fresh(txn, nonce)
    local moment = nonce:match("^(%x+)-")
    if not moment or not same(nonce, nonce_of(txn, moment)) then return false end
    local age = os.time() - tonumber(moment, 16)
    return age >= -AHEAD and age <= LIFE
end

local function fields_of(text)
    local fields, at = {}, 1
    while true do
        local name, value, after = text:match('^[%s,]*([%w*_-]+)%s*=%s*"([^"\\]*)"()', at)
        if not name then name, value, after = text:match('^[%s,]*([%w*_-]+)%s*=%s*([^%s,"]+)()', at) end
        if not name then return fields end
        fields[name:lower()], at = value, after
    end
end

local function knows_digest(txn, users, said)
    for _, name in ipairs({"username", "nonce", "uri", "response", "nc", "cnonce"}) do
        if not said[name] then return false end
    end
    if said.realm ~= REALM or said.qop ~= "auth" or (said.algorithm or "MD5"):upper() ~= "MD5" then return false end
    if said.uri ~= txn.f:pathq() and said.uri ~= txn.f:url() then return false end
    local hash = users[said.username]
    local what = md5(txn, txn.f:method(), said.uri)
    local wanted = md5(txn, hash or "", said.nonce, said.nc, said.cnonce, said.qop, what)
    return same(wanted, said.response:lower()) and hash ~= nil
end

-- The header that a request without the right password is answered with; nil where it has that.
local function challenge_of(txn, guard)
    local scheme, said = credentials_of(txn)
    if guard.mode == "basic" then
        if scheme == "basic" and knows_basic(txn, guard.users, said) then return nil end
        return 'Basic realm="' .. REALM .. '", charset="UTF-8"'
    end
    local fields = scheme == "digest" and fields_of(said) or {}
    local knows = knows_digest(txn, guard.users, fields)
    if knows and is_fresh(txn, fields.nonce) then return nil end
    local nonce = nonce_of(txn, string.format("%x", os.time()))
    local stale = knows and ", stale=true" or ""
    return 'Digest realm="' .. REALM .. '", qop="auth", algorithm=MD5, nonce="' .. nonce .. '"' .. stale
end

core.register_action("guard", {"http-req"}, function(txn)
    local guard = guards_of(txn)[domain_of(txn)]
    if guard then
        local challenge = challenge_of(txn, guard)
        if challenge then
            txn:set_var("txn.challenge", challenge)
            return
        end
        txn.http:req_del_header("authorization") -- the app has no use for it, and is not to know the password
    end
    txn:unset_var("txn.guards")
end)
