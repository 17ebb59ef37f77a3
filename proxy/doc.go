// Package proxy is the http.Handler in front of the FHIR server.
//
// The path of one request:
//
//	ServeHTTP ── strip ── routes ─┬─ method, path, base ───────────────► reject
//	 (observe)                    ├─ public path, preflight ──────────┐
//	                              └─ authenticate ─► authorize ───────┤
//	                                   │ Introspector                 ▼
//	                                   └─ any error ─► reject      forward ─► FHIR server
//
// Trust boundary: nothing a client sends is believed. The decision is made on
// the method and the raw request target of this connection, and on the answer
// of the introspection endpoint. Request headers take no part in it, but for
// Authorization, and Origin with Access-Control-Request-Method on a preflight.
//
// The FHIR server may believe the context headers, provided it can be reached
// through this handler only: every inbound header whose name could be read as
// one of them is removed on every route, and they are set in rewrite, after the
// headers that the client nominated as hop-by-hop are gone. It is called by
// httputil.ReverseProxy, or by relay, which does the same for GET and HEAD.
package proxy
