package runtime

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// hash names everything that decides which bytes a function reads and writes.
// The image is left out: a new image with the same schemas needs nothing from
// its callers. The texts are in it, since defaults and aliases, which have no
// part in a fingerprint, decide how older data is brought to them.
func (d *Description) hash() Fingerprint {
	h := sha256.New()
	fmt.Fprintf(h, "%q\n%q\n%d\n%t\n", d.Roles, d.Aggregate, d.StateVersion, d.Caches)
	for _, n := range d.sortedNames() {
		fmt.Fprintf(h, "%q %q %q\n", n, d.Schemas[n].Fingerprint, d.Schemas[n].Schema)
	}
	return Fingerprint(hex.EncodeToString(h.Sum(nil)[:16]))
}

// problemBody is the JSON of an answer that is an error: a problem document of RFC 9457.
type problemBody struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
}
