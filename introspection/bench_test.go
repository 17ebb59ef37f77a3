package introspection

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// BenchmarkDecode reads a response with launch context, and one with the scopes
// of a Koppeltaal portal: seventeen types, each for thirty devices.
func BenchmarkDecode(b *testing.B) {
	var scope strings.Builder
	for i := range 17 {
		fmt.Fprintf(&scope, "system/Type%d.cruds?resource-origin=", i)
		for device := range 30 {
			fmt.Fprintf(&scope, "Device/%08x-aaaa-4bbb-8ccc-000000000000,", device)
		}
		scope.WriteByte(' ')
	}
	for name, body := range map[string]string{
		"Launch": exampleOf2014,
		"Portal": fmt.Sprintf(`{"active":true,"aud":"fhir-server","exp":1419356238,"azp":"portal","scope":%q}`, scope.String()),
	} {
		b.Run(name, func(b *testing.B) {
			raw, now := []byte(body), time.Unix(1419356237, 0)
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := decodeResponse(raw, everyClaim, now); err != nil {
					b.Fatalf("decodeResponse: got error %v, want none", err)
				}
			}
		})
	}
}
