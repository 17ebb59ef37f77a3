// Package config is the configuration: every setting with its meaning and default,
// read from the environment and checked.
package config

import "time"

// Prefix begins the name of every setting, followed by an underscore.
const Prefix = "SIDECAR"

// Settings is every setting, in the order of the manual. The manual, -h and the
// chart's table are made from it. Names come from split_words alone: an
// envconfig tag would also read the name without our prefix.
//
// A number or duration is held to min and max, which the manual shows; they are far
// from any sensible value, and catch slipped digits. A text is held to the words of
// oneof; one that has no default may be empty, too.
type Settings struct {
	// The FHIR server.
	UpstreamURL string `split_words:"true" desc:"**Required.** FHIR base URL as the sidecar reaches it, such as http://127.0.0.1:8080/fhir. Requests at or below its path are forwarded byte for byte, all others get 404. One path segment may be {tenant}, which stands for any one segment."`

	PublicURL string `split_words:"true" desc:"FHIR base URL as clients write it, https (or a loopback address), with {tenant} where SIDECAR_UPSTREAM_URL has it. Never taken from a request. Absolute references to the server are compared with it, and served metadata names it."`

	// Where it listens.
	ListenAddress string `split_words:"true" default:":8000" desc:"Data listener: where clients reach the FHIR server through the sidecar."`
	AdminAddress  string `split_words:"true" default:":8001" desc:"Admin listener: /livez, /readyz, /metrics, /jwks.json, and DELETE /cache when it has a token."`

	// Authorization server and the sidecar's credentials.
	IntrospectionEndpoint   string        `split_words:"true" desc:"RFC 7662 endpoint. https, or http to a loopback address. Default: discovered, from the FHIR server and then from the issuer."`
	IssuerURL               string        `split_words:"true" desc:"Issuer of the authorization server. Its OpenID Connect or RFC 8414 metadata gives the endpoints that are not set, and its host is the one that discovered endpoints must have."`
	DiscoveryAllowedHosts   []string      `split_words:"true" desc:"Comma separated hosts (host or host:port) that a discovered endpoint may have. Default: host and port of the issuer. With neither set, nothing is discovered."`
	AllowInsecureHTTP       bool          `split_words:"true" default:"false" desc:"Allow http to an authorization server that is not on a loopback address. Every token then crosses the network readable."`
	IntrospectionAuth       string        `split_words:"true" default:"bearer" oneof:"bearer client_assertion client_secret_basic client_secret_post tls_client_auth none" desc:"How the sidecar authenticates itself: bearer, client_assertion (RFC 7523 in the form), client_secret_basic, client_secret_post, tls_client_auth (RFC 8705: the client certificate is the proof), or none (loopback only)."`
	BearerTokenFile         string        `split_words:"true" desc:"For bearer: file with the sidecar's own token. Reloaded on change."`
	TokenEndpoint           string        `split_words:"true" desc:"For bearer without a file: endpoint of the client credentials grant (SMART Backend Services). Default: discovered."`
	TokenAuth               string        `split_words:"true" oneof:"client_secret_basic client_secret_post private_key_jwt tls_client_auth" desc:"How the client credentials grant authenticates: client_secret_basic, client_secret_post, private_key_jwt or tls_client_auth (RFC 8705). Default: by what is set; a key goes before a secret, and that before a certificate."`
	JwksURL                 string        `split_words:"true" desc:"The issuer's keys for the pre-check, where its metadata can't be reached from here. https, or http to a loopback address. Default: jwks_uri of the issuer's metadata."`
	ClientID                string        `split_words:"true" desc:"The sidecar's client id at the authorization server."`
	ClientSecretFile        string        `split_words:"true" desc:"File with the client secret. Reloaded on change."`
	ClientKeyFile           string        `split_words:"true" desc:"File with the private key, PEM or JWK, that signs assertions. Reloaded on change."`
	ClientKeyID             string        `split_words:"true" desc:"kid of the key. Default: the JWK's own, else its RFC 7638 thumbprint."`
	ClientAssertionAlg      string        `split_words:"true" oneof:"RS256 RS384 RS512 PS256 PS384 ES256 ES384 EdDSA" desc:"Signature algorithm of assertions: RS256 RS384 RS512 PS256 PS384 ES256 ES384 EdDSA. Default: RS384 for an RSA key, ES384 for P-384, ES256 for P-256, EdDSA for Ed25519."`
	ClientAssertionAudience string        `split_words:"true" desc:"aud of assertions: introspection, token or issuer for those URLs, or a URL as it stands. Default: the URL the assertion is posted to."`
	TokenScope              string        `split_words:"true" desc:"Scope asked for in the client credentials grant."`
	IntrospectionTimeout    time.Duration `split_words:"true" default:"2s" min:"1ms" max:"24h" desc:"Longest time for one introspection, the whole response included."`
	MaxIntrospections       int           `split_words:"true" default:"64" min:"1" max:"10000" desc:"Calls to the authorization server at the same time. Beyond it requests wait, at most the introspection timeout, then get 503."`

	// TLS, to the authorization server and from clients.
	CAFile            string `split_words:"true" desc:"PEM file with the certificates that the authorization server's is checked against. Default: the system's."`
	ClientCertFile    string `split_words:"true" desc:"PEM file with the certificate for mTLS towards the authorization server."`
	ClientCertKeyFile string `split_words:"true" desc:"PEM file with the key of that certificate."`
	TLSCertFile       string `split_words:"true" desc:"PEM file with the certificate for the data listener, which then serves TLS and HTTP/2. Reloaded on change."`
	TLSKeyFile        string `split_words:"true" desc:"PEM file with the key of that certificate."`

	// How long a verdict is believed.
	CacheMaxEntries  int           `split_words:"true" default:"50000" min:"1" max:"10000000" desc:"Active results that are kept; the least recently used one gives way. About 350 bytes each."`
	CacheMaxAge      time.Duration `split_words:"true" default:"0" min:"0s" desc:"Longest time an active result is believed; 0 means until exp. Never past exp."`
	CacheNoExpAge    time.Duration `split_words:"true" default:"30s" min:"0s" desc:"How long an active result without exp is believed; 0 means it is not kept."`
	CacheInactiveAge time.Duration `split_words:"true" default:"5s" min:"0s" desc:"How long an inactive result is believed; 0 means it is not kept."`

	// What replicas share.
	IntrospectionOnce               bool          `split_words:"true" default:"false" desc:"The authorization server tells the truth about a token once, as Koppeltaal's does. An inactive verdict that was obtained while the shared cache could not be asked is then not believed: 503."`
	SharedCacheAddresses            []string      `split_words:"true" desc:"Comma separated host:port of a Valkey or Redis 7.0+ server that all replicas share verdicts and purges through; of its sentinels with SIDECAR_SHARED_CACHE_SENTINEL_MASTER, of some of its nodes with SIDECAR_SHARED_CACHE_CLUSTER. Default: nothing is shared."`
	SharedCacheSentinelMaster       string        `split_words:"true" desc:"Name of the master that the sentinels watch. The addresses are the sentinels' then."`
	SharedCacheSentinelUsername     string        `split_words:"true" desc:"Account at the sentinels."`
	SharedCacheSentinelPasswordFile string        `split_words:"true" desc:"File with its password. Reloaded on change."`
	SharedCacheCluster              bool          `split_words:"true" default:"false" desc:"The addresses are nodes of a cluster."`
	SharedCacheUsername             string        `split_words:"true" desc:"Account (ACL user) at the server. Default: the server's default user."`
	SharedCachePasswordFile         string        `split_words:"true" desc:"File with its password. Reloaded on change: the next connection uses the new one."`
	SharedCacheKeyFile              string        `split_words:"true" desc:"Required with SIDECAR_SHARED_CACHE_ADDRESSES: file with the secret that all replicas share, at least 32 random bytes as base64 or hex. While it is being replaced, the new one on the first line and the previous one on the second. Reloaded on change."`
	SharedCachePrefix               string        `split_words:"true" default:"fis" desc:"Beginning of every key in the store: 1 to 32 of a-z, 0-9 and -. Another one for each deployment that shares a server."`
	SharedCacheTLS                  bool          `split_words:"true" default:"true" desc:"Connect over TLS. false is for loopback addresses, unless SIDECAR_ALLOW_INSECURE_HTTP=true."`
	SharedCacheCAFile               string        `split_words:"true" desc:"PEM file with the certificates that the store's is checked against. Default: the system's. Reloaded on change."`
	SharedCacheClientCertFile       string        `split_words:"true" desc:"PEM file with the certificate for mTLS towards the store. Reloaded on change."`
	SharedCacheClientCertKeyFile    string        `split_words:"true" desc:"PEM file with the key of that certificate."`
	SharedCacheTimeout              time.Duration `split_words:"true" default:"100ms" min:"1ms" max:"10s" desc:"Longest time for one operation of the store."`
	SharedCacheOnFailure            string        `split_words:"true" default:"introspect" oneof:"introspect refuse" desc:"What happens to tokens that are not in this replica's memory while the store is away: introspect asks about them from each replica, refuse has them come back later (503)."`

	// What a token must have besides being active.
	RequiredAudiences  []string      `split_words:"true" desc:"Comma separated. aud must contain one of these values (exact match)."`
	RequiredIssuers    []string      `split_words:"true" desc:"Comma separated. iss must be one of these values (exact match)."`
	RequiredScopes     []string      `split_words:"true" desc:"Separated by commas or spaces. scope must contain all of these values (exact match)."`
	RequiredTokenTypes []string      `split_words:"true" desc:"Comma separated. token_type must be one of these values (case-insensitive). Needed with servers that call refresh tokens active."`
	ClockSkew          time.Duration `split_words:"true" default:"5s" min:"0s" max:"5m" desc:"Leeway for nbf and iat. exp gets none."`
	JWTPrecheck        bool          `split_words:"true" default:"false" desc:"Verify tokens that are JWTs with the issuer's keys before asking about them; forged and expired ones are refused without a call. Needs SIDECAR_ISSUER_URL. Never replaces introspection."`
	ScopeEnforcement   string        `split_words:"true" default:"off" oneof:"off report coarse strict" desc:"off, report (judge as coarse, count and log, let pass), coarse (the token's SMART scopes must permit the FHIR interaction on every type that the URL names) or strict (as coarse; a scope with search parameters grants only searches that carry them)."`
	Operations         []string      `split_words:"true" desc:"Comma separated. What further operations need, such as $docref=DocumentReference.rs,$process-message=MessageHeader.c; * for all types."`
	PathScopes         []string      `split_words:"true" desc:"Comma separated. What paths below the base that FHIR doesn't know need, such as GET documents/*=DocumentReference.r,GET */__page/*=s."`
	PatientContext     string        `split_words:"true" default:"require" oneof:"require ignore" desc:"require: a token whose resource scopes are all patient/ and that has no usable patient gets 403. ignore: it passes, without the header."`
	PatientGuard       string        `split_words:"true" default:"off" oneof:"off report enforce strict" desc:"For tokens limited by patient/ scopes: off, report, enforce (refuse requests whose URL proves another patient than the token's) or strict (refuse also what can't be proved to stay with the patient)."`
	PatientGuardTypes  []string      `split_words:"true" desc:"Comma separated. Types outside the patient compartment of FHIR R4 and the parameter that names their patient, such as Task:patient."`
	TenantClaim        string        `split_words:"true" desc:"Claim that must equal the {tenant} segment of the path, else 403."`
	MaxTokenBytes      int           `split_words:"true" default:"8192" min:"1" max:"1048576" desc:"Longest token that is introspected. Longer ones are refused without a call."`

	// What reaches the FHIR server.
	HeaderPrefix          string        `split_words:"true" default:"X-Launch-" desc:"Beginning of every context header's name."`
	Headers               []string      `split_words:"true" default:"patient,encounter,user,fhirContext,intent,tenant,sub,iss,client_id,scope,exp" desc:"Comma separated. Claims that the FHIR server gets as headers; also known: username, aud, jti, resource, definition. none for no header."`
	ExtraHeaders          []string      `split_words:"true" desc:"Comma separated Name=claim, such as Organization=organization: further members of the introspection response that the FHIR server gets as headers, the prefix before each name. Strings, numbers and Booleans as text, anything else as JSON on one line."`
	ClaimAliases          []string      `split_words:"true" desc:"Comma separated claim=member, such as patient=launch_response_patient: the member that is looked at when the authorization server doesn't send the claim itself."`
	UpstreamAuthorization string        `split_words:"true" default:"forward" oneof:"forward strip" desc:"forward the client's Authorization to the FHIR server, or strip it."`
	TrustedProxies        []string      `split_words:"true" desc:"Comma separated CIDRs of proxies in front whose Forwarded and X-Forwarded-* headers are kept. From all others they are replaced."`
	UpstreamHeaderTimeout time.Duration `split_words:"true" default:"120s" min:"1ms" max:"24h" desc:"Longest wait for the FHIR server's response headers; then 504."`
	PublicPaths           []string      `split_words:"true" default:"metadata,.well-known/smart-configuration" desc:"Comma separated. Paths below the base that need no token, exactly as requested; GET and HEAD only. none for no path."`

	// What clients are told, browsers among them.
	CORSOrigins            []string `split_words:"true" desc:"Comma separated origins, such as https://app.example.org, or *. The sidecar then answers preflights itself and writes the CORS headers of every response in place of the FHIR server's. * never goes with credentials. Default: preflights go to the FHIR server."`
	SMARTConfiguration     string   `split_words:"true" default:"forward" oneof:"forward fallback serve" desc:".well-known/smart-configuration: forward the FHIR server's, fallback (make one while the FHIR server has none) or serve (make one), from the issuer's metadata. Needs SIDECAR_ISSUER_URL or the file."`
	SMARTConfigurationFile string   `split_words:"true" desc:"File with the SMART configuration to serve, instead of one that is made."`
	SMARTCapabilities      []string `split_words:"true" desc:"Comma separated. capabilities in the SMART configuration that is made. Default: those that the issuer's metadata proves."`
	SMARTScopes            []string `split_words:"true" desc:"Separated by commas or spaces. scopes_supported in what is made. Default: the issuer's."`
	ResourceMetadata       string   `split_words:"true" default:"off" oneof:"off on" desc:"on: serve OAuth 2.0 protected resource metadata (RFC 9728), at its well-known place outside the base and below the base, and name it in challenges. Needs SIDECAR_PUBLIC_URL."`
	ResourceName           string   `split_words:"true" desc:"resource_name in that metadata."`
	ResourceDocumentation  string   `split_words:"true" desc:"resource_documentation in that metadata, a URL."`

	// Operation.
	ShutdownDelay   time.Duration `split_words:"true" default:"0s" min:"0s" max:"24h" desc:"After SIGTERM: how long to serve on with readiness red before closing the listener."`
	ShutdownTimeout time.Duration `split_words:"true" default:"25s" min:"0s" max:"24h" desc:"After that: how long requests in flight may take."`
	AuditLog        string        `split_words:"true" default:"off" desc:"off, stdout or a file: one record per request, with client, user and patient."`
	AuditFormat     string        `split_words:"true" default:"json" oneof:"json fhir-balp fhir-kt2" desc:"json, fhir-balp (FHIR AuditEvents after IHE BALP) or fhir-kt2 (after Koppeltaal's profile): one line per record."`
	AuditQuery      bool          `split_words:"true" default:"false" desc:"Record the query of requests that a token was accepted for. It may hold patients' data."`
	AuditObserver   string        `split_words:"true" desc:"Who records, in FHIR AuditEvents: a reference such as Device/1, or a name. Default: the host of SIDECAR_PUBLIC_URL, else of the machine."`
	AdminTokenFile  string        `split_words:"true" desc:"File with the bearer token for admin calls that change something; without it they do not exist. Reloaded on change."`
	AdminTLS        bool          `split_words:"true" default:"false" desc:"Serve the admin listener over TLS, with the data listener's certificate."`
	BypassGuard     string        `split_words:"true" default:"warn" oneof:"off warn enforce" desc:"Whether the FHIR server's port is tried on the pod's own other addresses, where clients could go around the sidecar: off, warn, or enforce, which makes the sidecar not ready while such a connection is accepted."`
	MaxConnections  int           `split_words:"true" default:"0" min:"0" max:"1000000" desc:"Client connections at a time, and requests at a time: streams of HTTP/2 count too. 0: what the memory limit of the container has room for, each taking 320 KiB beyond the first 96 MiB, or without such a limit what that of open files has. Whoever comes later waits."`
	StallTimeout    time.Duration `split_words:"true" default:"60s" min:"1s" max:"24h" desc:"How long a request's body, or the writing of a response, may make no progress before it is broken off. Event streams that are idle are not stalled."`
	IdleTimeout     time.Duration `split_words:"true" default:"120s" min:"1s" max:"24h" desc:"How long a client's connection may be idle. Load balancers that keep theirs longer need more."`
	Http2           bool          `split_words:"true" default:"true" desc:"HTTP/2 on the data listener, when it speaks TLS. false: HTTP/1.1 only."` //nolint:revive // HTTP2 would become SIDECAR_HTT_P2
	FastPath        bool          `split_words:"true" default:"true" desc:"Serve canonical HTTP/1.1 requests without net/http's overhead. false: everything by net/http."`
	LogFormat       string        `split_words:"true" default:"json" oneof:"json text" desc:"Lines of JSON, or of text for reading at a terminal."`
	LogLevel        string        `split_words:"true" default:"info" oneof:"debug info warn error" desc:"debug, info, warn or error."`
}
