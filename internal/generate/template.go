package generate

import (
	"bytes"
	_ "embed"
	"fmt"
	"go/format"
	"text/template"
)

//go:embed evento.go.tmpl
var eventoTemplate string

// render writes evento.go.
func (m *model) render() ([]byte, error) {
	t, err := template.New("evento.go").Parse(eventoTemplate)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, m); err != nil {
		return nil, err
	}
	out, err := format.Source(b.Bytes())
	if err != nil {
		return nil, fmt.Errorf("%s: the generated code is no Go: %w", m.File, err)
	}
	return out, nil
}
