package dev

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// schemaFiles returns the .avsc files by name: those of the folder, or, when it
// is empty, those in the functions' own folders. Functions of one aggregate may
// each have a copy of its file.
func schemaFiles(folder string, functions []Function, data string) (map[string]string, error) {
	files := make(map[string]string) // by file name
	if folder != "" {
		found, err := filepath.Glob(filepath.Join(folder, "*.avsc"))
		if err != nil {
			return nil, err
		}
		for _, path := range found {
			files[filepath.Base(path)] = path
		}
		return files, nil
	}
	for _, f := range functions {
		err := filepath.WalkDir(f.Dir, func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && path != f.Dir && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || path == data):
				return filepath.SkipDir
			case d.IsDir() || filepath.Ext(path) != ".avsc":
				return nil
			}
			other, ok := files[d.Name()]
			if !ok || other == path {
				files[d.Name()] = path
				return nil
			}
			same, err := sameText(other, path)
			if err == nil && !same {
				err = fmt.Errorf("%s and %s differ: give functions of one aggregate the same schema file, or say with --schemas which files count", shown(other), shown(path))
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("schemas: %w", err)
		}
	}
	return files, nil
}

func sameText(a, b string) (bool, error) {
	one, err := os.ReadFile(a)
	if err != nil {
		return false, err
	}
	other, err := os.ReadFile(b)
	return bytes.Equal(one, other), err
}

// findSchemas copies the schema files into the data directory, for the gateway to
// register at its start. It returns their texts by path.
func findSchemas(folder string, functions []Function, data string) (map[string]string, error) {
	if folder != "" {
		if info, err := os.Stat(folder); err != nil || !info.IsDir() {
			return nil, fmt.Errorf("schema folder %q is not there; say where the .avsc files are with --schemas", folder)
		}
	}
	files, err := schemaFiles(folder, functions, data)
	if err != nil {
		return nil, err
	}
	return copySchemas(files, filepath.Join(data, "schemas"))
}

// copySchemas puts the files into a folder of their own, made anew.
// It returns their texts by path.
func copySchemas(files map[string]string, to string) (map[string]string, error) {
	if err := os.RemoveAll(to); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(to, 0o700); err != nil {
		return nil, err
	}
	texts := make(map[string]string)
	for name, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("schema file: %w", err)
		}
		texts[path] = string(text)
		if err := os.WriteFile(filepath.Join(to, name), text, 0o600); err != nil {
			return nil, err
		}
	}
	return texts, nil
}

// registerTimeout is more than the gateway takes when Kafka is slow.
const registerTimeout = 30 * time.Second

// schemaRefused is the gateway's reason not to take a schema file.
type schemaRefused struct{ why string }

func (e *schemaRefused) Error() string { return e.why }

// registerSchema gives one schema file to the gateway. It returns the full names
// of the types that have a new version. The error is a [*schemaRefused] when the
// file is wrong; after any other the gateway can be asked again.
func registerSchema(ctx context.Context, gateway, text string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, registerTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, gateway+"/v1/schemas", strings.NewReader(text))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	switch resp.StatusCode / 100 {
	case 2:
	case 4:
		return nil, &schemaRefused{problemText(body)}
	default:
		return nil, fmt.Errorf("the gateway answered %s: %s", resp.Status, problemText(body))
	}
	var answer struct {
		New []struct {
			Name string `json:"name"`
		} `json:"new"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("the gateway's answer: %w", err)
	}
	var names []string
	for _, t := range answer.New {
		names = append(names, t.Name)
	}
	return names, nil
}

// problemText is the detail of a problem document (RFC 9457), or what came instead.
func problemText(body []byte) string {
	var p struct {
		Detail string `json:"detail"`
	}
	if json.Unmarshal(body, &p) != nil || p.Detail == "" {
		return strings.TrimSpace(string(body))
	}
	return p.Detail
}
