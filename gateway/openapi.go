package gateway

import (
	_ "embed" // for openapi.json
	"net/http"
)

// openAPI is the description of the API (OpenAPI 3.1). A test holds it against
// the table of routes.
//
//go:embed openapi.json
var openAPI []byte

func (s *HTTPServer) getOpenAPI(w http.ResponseWriter, _ *http.Request, _ *AuthPrincipal) error {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "max-age=300")
	w.Write(openAPI)
	return nil
}
