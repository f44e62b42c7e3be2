package gateway

import (
	"errors"
	"fmt"

	"github.com/evento-oss/evento/runtime"
)

// unknownThereError says that a function was built without a type. It may be
// replaced by a build that has it, so this is no fault of the message.
type unknownThereError struct{ name runtime.TypeName }

func (e *unknownThereError) Error() string {
	return fmt.Sprintf("type %q is not yet known there: the function was built without it; build it with the registered schema", string(e.name))
}

// errUnregistered is returned, wrapped with the schema, for a version of a type
// that the catalogue does not have (yet).
var errUnregistered = errors.New("this version of the schema is not registered; register it with `evento schema`")

// errTranscode is returned, wrapped with the reason, for a value that does not
// fit into the schema of a function.
var errTranscode = errors.New("it does not fit the schema that the function was built with")

// transcode brings a value from the schema that wrote it to the version of its
// type that a function was built with. It returns the same slice when that is
// the same version.
func (f *Functions) transcode(from runtime.DataSchema, data []byte, build *runtime.Description) (runtime.DataSchema, []byte, error) {
	name, fingerprint, err := from.Parse()
	if err != nil {
		return "", nil, err
	}
	known, ok := build.Schemas[name]
	if !ok {
		return "", nil, &unknownThereError{name}
	}
	if known.Fingerprint == fingerprint {
		return from, data, nil
	}
	to := runtime.NewDataSchema(name, known.Fingerprint)
	for _, schema := range []runtime.DataSchema{from, to} {
		if _, ok := f.set.Schemas.Version(schema); !ok {
			return "", nil, fmt.Errorf("%q: %w", string(schema), errUnregistered)
		}
	}
	data, err = f.set.Schemas.Transcode(from, data, to)
	if err != nil {
		return "", nil, fmt.Errorf("%w: %w", errTranscode, err)
	}
	return to, data, nil
}
