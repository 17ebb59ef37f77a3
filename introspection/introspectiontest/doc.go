// Package introspectiontest is a reference introspection endpoint (RFC 7662)
// for tests and demonstrations. It is as strict as the standard allows towards
// the client under test, and can misbehave in every way real authorization
// servers have been seen to.
//
// A test needs three lines:
//
//	as := introspectiontest.NewServer(t)
//	as.AddToken("good", as.Claims())
//	// point the client at as.Endpoint(), with as bearer introspectiontest.DefaultBearer
//
// Afterwards as.Introspections, as.IntrospectionsOf and as.Requests tell what
// the client did. A request that breaks the rules is refused, so a client that
// gets its verdict has also proved that its request was right:
//
//   - POST only, else 405; nothing in the query, so that tokens stay out of logs
//   - Content-Type application/x-www-form-urlencoded, else 415, and
//     Accept: application/json, else 406
//   - the body holds token and, in the modes that put it there, the caller's
//     credential; anything else or anything twice is 400
//   - a missing or wrong credential is 401 with the error invalid_client
//   - everything wrong with the token itself (unknown, expired, revoked, another
//     client's) is 200 {"active":false}, RFC 7662 section 2.2
//
// The server misbehaves when told to, for every token or for one:
//
//	as.SetAnswer(introspectiontest.Respond(503, nil, ""))
//	as.SetAnswerFor("odd", introspectiontest.Change(func(m map[string]any) { delete(m, "exp") }))
//
// [Deviations] lists the deviations seen in the field with the verdict a careful
// client reaches, ready for a table test. [Hold], [Delay] and [Hang] aren't in
// that list: they take as long as the client's patience.
//
// The package also has a token endpoint (client credentials grant), so that a
// client which fetches its own bearer token can be tested, and the metadata of
// RFC 8414 and OpenID Connect Discovery for one which looks the endpoints up.
// No signature is ever checked: this is no authorization server for real use.
//
// What tests of several packages need beside a server stands here too: a certificate
// authority ([Authority]), a file that is followed ([File]), a log ([Log]), the lines of
// an audit log ([AuditLines]), and a text that must not show ([Canary]).
package introspectiontest
