package proxy

// place is where a request leads.
type place struct {
	tenant  string // "" without a placeholder in the base
	path    string // below the base, without leading slash
	outside bool   // of the base: resource metadata
}
