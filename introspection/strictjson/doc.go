// Package strictjson reads JSON that decides something. It takes its tokens from
// encoding/json/jsontext, and has rules of its own for the names of members:
// encoding/json lets the last of two win and takes a name in any case, and
// encoding/json/v2 refuses two of any name and overlooks one in another case.
// Here a member that is wanted stands once and is spelled exactly, and what
// nobody wants does no harm.
package strictjson
