package dev

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// State says what runs where. While an instance runs it stands in dev.json of
// the data directory, for tools such as evento bench.
type State struct {
	PID       int             `json:"pid"` // of this process: gateway, and what is embedded
	Dir       string          `json:"dir"`
	Gateway   string          `json:"gateway"` // URL
	Kafka     string          `json:"kafka"`   // bootstrap servers
	Redis     string          `json:"redis"`   // host:port
	Functions []FunctionState `json:"functions"`
	Started   time.Time       `json:"started"`
}

// FunctionState is one function that runs.
type FunctionState struct {
	Name string `json:"name"`
	URL  string `json:"url"`
	PID  int    `json:"pid"` // 0 while it is being restarted
}

const stateFile = "dev.json"

// DrillFile is the file of the data directory that makes functions fail on
// purpose: see EVENTO_DRILL of package runtime.
const DrillFile = "drill"

// ReadState returns what runs on the data directory. The error wraps
// [os.ErrNotExist] when nothing does.
func ReadState(dir string) (State, error) {
	var s State
	text, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err != nil {
		return s, fmt.Errorf("what runs on %q: %w", dir, err)
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, fmt.Errorf("what runs on %q: %w", dir, err)
	}
	return s, nil
}

// write replaces the file as a whole: a reader never sees half of it.
func (s State) write(dir string) error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	name := filepath.Join(dir, stateFile)
	if err := os.WriteFile(name+".new", append(text, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}
