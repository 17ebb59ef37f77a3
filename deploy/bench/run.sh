#!/usr/bin/env bash
# Measures the sidecar beside nginx, nginx with Lua and HAProxy with Lua. -h lists the
# flags.
set -euo pipefail
cd "$(dirname "$0")"

modules=/usr/lib/nginx/modules
../tests/packages.sh nginx "$modules/ngx_http_js_module.so:libnginx-mod-http-js" \
	"$modules/ngx_http_lua_module.so:libnginx-mod-http-lua" /usr/share/lua/5.1/resty/lrucache.lua:lua-resty-lrucache \
	/usr/share/lua/5.1/cjson:lua-cjson haproxy apache2:apache2-bin \
	/usr/lib/apache2/modules/mod_auth_openidc.so:libapache2-mod-auth-openidc \
	wrk h2load:nghttp2-client taskset:util-linux >&2

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
CGO_ENABLED=0 GOWORK=off go build -trimpath -o "$dir/bench" .
"$dir/bench" "$@"
