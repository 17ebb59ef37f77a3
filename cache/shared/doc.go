// Package shared shares verdicts between the replicas of a sidecar through a
// store, and has a purge on one of them reach all.
//
// It stands between the cache in memory and the client: the cache in memory asks
// it once for each token that it doesn't know, whoever wants to know.
//
//	shared.go    one search, then a verdict, a call or a refusal
//	call.go      the call, and what becomes of the response
//	lookup.go    the search: a verdict, our lease, or another's to wait for
//	reader.go    what may be believed of what stands there
//	seal.go      names and seals: what the store holds says nothing to its operator
//	record.go    what is sealed: the server's response, byte for byte
//	secret.go    the secret that the replicas have in common
//	queue.go     writes that nobody waits for
//	feed.go      purges for all replicas
//	events.go    the purges that this replica knows of
//	event.go     one purge, sealed
//	store.go     the store's operations, with deadlines, counted
//	gate.go      skips a store that is away
//
// One key per token holds either a lease ("somebody is asking") or a verdict.
// Both are looked for by one command, which leaves our lease if there is neither:
//
//	SET key L<id> NX GET PX … ─┬─ nothing there: ours      → ask, then SET key V…
//	                           ├─ V…: a verdict            → opened, judged, decoded
//	                           └─ L…: another replica asks → look again until it has
//
// A store that is away costs a request at most a few timeouts, then nothing; what
// happens to its token then is the operator's to choose (Config.Refuse).
package shared
