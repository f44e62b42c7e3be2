package avro

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/evento-oss/evento/runtime"
)

// Validate checks strictly that data are one value of the schema and nothing
// more. It is made for input from anyone: time is linear in the input, nothing
// is allocated on its word. The error wraps [ErrData], [ErrUnknownType] or
// [ErrUnknownSchema].
func (c *Catalogue) Validate(d runtime.DataSchema, data []byte) error {
	v, _, err := c.version(d)
	if err != nil {
		return err
	}
	return check(v.shape, data)
}

// FromJSON encodes JSON in the newest version of a type. Fields may stand in
// any order and may be missing if they have a default; unknown and repeated
// keys are refused. Nullable values are plain or tagged as in Avro's JSON
// encoding. Whole numbers have no fraction and no exponent; timestamps and
// dates are numbers; decimals are numbers, never strings. The same value always
// gives the same bytes. The error wraps [ErrData] or [ErrUnknownType].
func (c *Catalogue) FromJSON(name runtime.TypeName, json []byte) ([]byte, runtime.DataSchema, error) {
	v, err := c.newest(name)
	if err != nil {
		return nil, "", err
	}
	data, err := fromJSON(v.shape, json)
	return data, v.DataSchema(), err
}

// ToJSON shows a value as plain JSON, fields in the order of the schema. Longs
// beyond 2^53 are numbers all the same. The error is that of [Catalogue.Validate].
func (c *Catalogue) ToJSON(d runtime.DataSchema, data []byte) ([]byte, error) {
	v, _, err := c.version(d)
	if err != nil {
		return nil, err
	}
	if err := check(v.shape, data); err != nil {
		return nil, err
	}
	out, _ := toJSON(make([]byte, 0, 2*len(data)+64), v.shape, data, 0)
	return out, nil
}

// Transcode brings a value from one version of a type to another. If they are
// equal, data are returned as they are, unchecked; otherwise data are checked
// first. The result may share memory with data. The error wraps
// [ErrIncompatible] when the one cannot be read as the other, which for the
// states of an aggregate means: rebuild it from its events. It may also be one
// of [Catalogue.Validate].
func (c *Catalogue) Transcode(from runtime.DataSchema, data []byte, to runtime.DataSchema) ([]byte, error) {
	if from == to {
		return data, nil
	}
	writer, _, err := c.version(from)
	if err != nil {
		return nil, err
	}
	reader, family, err := c.version(to)
	if err != nil {
		return nil, err
	}
	r, err := family.resolution(writer, reader)
	if err != nil {
		return nil, err
	}
	return r.apply(data, writer.Name)
}

// resolution returns the cached resolution of a pair, or its error, and makes
// it on first use.
func (f *family) resolution(writer, reader *version) (*resolution, error) {
	pair := [2]*version{writer, reader}
	cached, ok := f.resolved.Load(pair)
	if !ok {
		// Two callers may compile the same pair at once; either result does.
		made, err := f.newResolution(writer, reader)
		if err != nil {
			cached = err
		} else {
			cached = made
		}
		f.resolved.Store(pair, cached)
	}
	if err, bad := cached.(error); bad {
		return nil, err
	}
	return cached.(*resolution), nil
}

func (f *family) newResolution(writer, reader *version) (*resolution, error) {
	if writer.Name != reader.Name {
		return nil, fmt.Errorf("%w: %s and %s are different types", ErrIncompatible, writer.Name, reader.Name)
	}
	first, last := min(writer.Version, reader.Version), max(writer.Version, reader.Version)
	for _, v := range f.byName[writer.Name] {
		if v.Rebuild && v.Version > first && v.Version <= last {
			return nil, fmt.Errorf(`%w: version %d of %s says "rebuild": states of other versions are made anew from events`,
				ErrIncompatible, v.Version, v.Name)
		}
	}
	return resolve(writer, reader)
}

// CanonicalHash returns a digest of what a command or outside event says: its
// type, its subject and its value. Two messages of equal hashes say the same,
// however their values were encoded. The hash begins with the fingerprint of
// the schema: under different fingerprints the hashes always differ, and
// [Catalogue.SameValue] must be asked ([ComparableHashes] tells). The data must
// be valid; the error wraps [ErrData], [ErrUnknownType] or [ErrUnknownSchema].
func (c *Catalogue) CanonicalHash(m *runtime.Message) (string, error) {
	v, _, err := c.version(m.Schema)
	if err != nil {
		return "", err
	}
	if m.Type != v.Name {
		return "", &DataError{Type: string(m.Type), Reason: fmt.Sprintf("its dataschema is of %s", v.Name)}
	}
	scratch, _ := c.scratch.Get().(*[]byte)
	if scratch == nil {
		scratch = new([]byte)
	}
	b := append((*scratch)[:0], m.Type...)
	// NUL stands in neither, so the parts cannot run into each other.
	b = append(b, 0)
	b = append(b, m.Subject...)
	b = append(b, 0)
	if v.shape.varies {
		if err := check(v.shape, m.Data); err != nil {
			return "", err
		}
		b, _ = canonical(b, v.shape, m.Data, 0)
	} else {
		b = append(b, m.Data...)
	}
	digest := sha256.Sum256(b)
	*scratch = b
	c.scratch.Put(scratch)
	var text [16 + 1 + 32]byte
	copy(text[:], v.Fingerprint)
	text[16] = '.'
	hex.Encode(text[17:], digest[:16])
	return string(text[:]), nil
}

// ComparableHashes says whether two results of [Catalogue.CanonicalHash] were made
// under the same schema, so that their difference is one of the messages.
func ComparableHashes(a, b string) bool {
	fa, _, ok := strings.Cut(a, ".")
	fb, _, _ := strings.Cut(b, ".")
	return ok && fa == fb
}

// SameValue says whether two values are the same when the older version is
// brought to the newer. Values of different types never are. When the newer
// cannot read the older the answer is no. The error is that of [Catalogue.Validate].
func (c *Catalogue) SameValue(a runtime.DataSchema, aData []byte, b runtime.DataSchema, bData []byte) (bool, error) {
	older, f, err := c.version(a)
	if err != nil {
		return false, err
	}
	newer, _, err := c.version(b)
	if err != nil {
		return false, err
	}
	if err := check(older.shape, aData); err != nil {
		return false, err
	}
	if err := check(newer.shape, bData); err != nil {
		return false, err
	}
	if older.Name != newer.Name {
		return false, nil
	}
	if a != b {
		if older.Version > newer.Version {
			older, newer = newer, older
			aData, bData = bData, aData
		}
		r, err := f.resolution(older, newer)
		if err != nil {
			return false, nil
		}
		if aData, err = r.apply(aData, older.Name); errors.Is(err, ErrData) {
			return false, nil
		}
	}
	canonicalA, _ := canonical(nil, newer.shape, aData, 0)
	canonicalB, _ := canonical(nil, newer.shape, bData, 0)
	return bytes.Equal(canonicalA, canonicalB), nil
}
