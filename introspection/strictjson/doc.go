// Package strictjson reads JSON that decides something, where encoding/json is
// too lenient: it matches names whatever their case, lets the last duplicate
// win, ignores what follows the value in a stream and silently replaces broken
// UTF-8. The functions here don't.
package strictjson
