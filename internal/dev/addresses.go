package dev

import (
	"context"
	"errors"
	"maps"
	"sync"
)

// Addresses says where the functions run. They change when a function is
// rebuilt, or named in the stack.yml for the first time.
type Addresses struct {
	mu   sync.Mutex // guards what follows
	urls map[string]string
	load func(context.Context) error
}

// URL returns where a function runs. The error is for people.
func (a *Addresses) URL(name string) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if url, ok := a.urls[name]; ok {
		return url, nil
	}
	return "", errors.New("it does not run here")
}

// Follow says what reads the stack.yml and the addresses again. When load
// returns nil, no call that begins later goes to a former address; after an
// error the former ones are in effect. It is called once, before the gateway is
// ready.
func (a *Addresses) Follow(load func(context.Context) error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.load = load
}

// change puts other addresses into effect, or none of them.
func (a *Addresses) change(ctx context.Context, urls map[string]string) error {
	a.mu.Lock()
	before, load := a.urls, a.load
	a.urls = maps.Clone(urls)
	a.mu.Unlock()
	if load == nil { // the gateway reads them when it starts
		return nil
	}
	err := load(ctx)
	if err != nil {
		a.mu.Lock()
		a.urls = before
		a.mu.Unlock()
	}
	return err
}
