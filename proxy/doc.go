// Package proxy is the http.Handler in front of the FHIR server.
//
// The path of one request:
//
//	ServeHTTP ── strip ── route ─┬─ method, path, base ────────────────► refuse
//	    │                        ├─ public path, preflight ──────────┐
//	    │                        └─ authenticate ─► policy, scopes ──┤
//	    ▼                             │ Introspector                 ▼
//	 observe                          └─ any error ─► refuse      forward ─► FHIR server
//
// Trust boundary: nothing a client sends is believed. The decision is made on a
// request value that holds the method and the raw request target of this
// connection, and on the response of the introspection endpoint. Request headers
// take no part in it, but for Authorization, Cdn-Loop, If-None-Exist, and Origin
// with Access-Control-Request-Method on a preflight.
//
// The FHIR server may believe the context headers, provided it can be reached
// through this handler only: every inbound header whose name could be read as
// one of them is removed on every route, and they are set in rewrite, after the
// headers that the client nominated as hop-by-hop are gone.
package proxy
