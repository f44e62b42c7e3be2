package runtime_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/evento-oss/evento/runtime"
)

func environment(vars map[string]string) func(string) string {
	return func(name string) string { return vars[name] }
}

func TestConfigurationIsReadFromEitherPlatform(t *testing.T) {
	for name, c := range map[string]struct {
		vars  map[string]string
		check func(c runtime.Config) bool
	}{
		"nothing": {nil, func(c runtime.Config) bool {
			return c.Port == 8080 && c.Bind == "" && c.ReadTimeout == 30*time.Second && c.ExecTimeout == 30*time.Second &&
				c.MaxInflight == 0 && c.LockFile == "/tmp/.lock" && c.StateCache == runtime.DefaultStateCache && c.StopDelay == 0 && c.Keys == nil
		}},
		"PORT goes before port": {map[string]string{"PORT": "9001", "port": "9002"}, func(c runtime.Config) bool { return c.Port == 9001 }},
		"port of the watchdog":  {map[string]string{"port": "9002"}, func(c runtime.Config) bool { return c.Port == 9002 }},
		"timeouts": {map[string]string{"read_timeout": "1s", "write_timeout": "2", "exec_timeout": "3m"}, func(c runtime.Config) bool {
			return c.ReadTimeout == time.Second && c.WriteTimeout == 2*time.Second && c.ExecTimeout == 3*time.Minute
		}},
		"limits":              {map[string]string{"max_inflight": "7", "EVENTO_MAX_BODY": "4096"}, func(c runtime.Config) bool { return c.MaxInflight == 7 && c.MaxBody == 4096 }},
		"states are kept":     {map[string]string{"EVENTO_STATE_CACHE": "65536"}, func(c runtime.Config) bool { return c.StateCache == 65536 }},
		"states are not kept": {map[string]string{"EVENTO_STATE_CACHE": "0"}, func(c runtime.Config) bool { return c.StateCache == 0 }},
		"Knative": {map[string]string{"K_SERVICE": "checking", "K_REVISION": "checking-00007", "KUBERNETES_SERVICE_HOST": "10.0.0.1"}, func(c runtime.Config) bool {
			return c.Audience == "checking" && c.Image == "checking-00007" && c.StopDelay == 0
		}},
		"OpenFaaS": {map[string]string{"OPENFAAS_NAME": "checking", "KUBERNETES_SERVICE_HOST": "10.0.0.1"}, func(c runtime.Config) bool {
			return c.Audience == "checking" && c.StopDelay == 3*time.Second
		}},
		"the delay that is said":   {map[string]string{"healthcheck_interval": "5s"}, func(c runtime.Config) bool { return c.StopDelay == 5*time.Second }},
		"a process on one machine": {map[string]string{"EVENTO_BIND": "127.0.0.1"}, func(c runtime.Config) bool { return c.Bind == "127.0.0.1" && c.LockFile == "" }},
		"a drill on one machine":   {map[string]string{"EVENTO_BIND": "127.0.0.1", "EVENTO_DRILL": "/tmp/drill"}, func(c runtime.Config) bool { return c.Drill == "/tmp/drill" }},
		"jwt_auth off":             {map[string]string{"jwt_auth": "false"}, func(runtime.Config) bool { return true }},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := runtime.ConfigFromEnvironment(environment(c.vars))
			if err != nil || !c.check(got) {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

func TestAllThatIsWrongWithTheConfigurationIsSaidAtOnce(t *testing.T) {
	_, err := runtime.ConfigFromEnvironment(environment(map[string]string{
		"PORT": "http", "read_timeout": "soon", "write_timeout": "0", "exec_timeout": "-1s", "max_inflight": "-1",
		"EVENTO_MAX_BODY": "1", "EVENTO_STATE_CACHE": "64M", "EVENTO_DRILL": "/tmp/drill", "jwt_auth": "true", "EVENTO_KEY_FILE": "/nowhere/key", "healthcheck_interval": "48h",
	}))
	if err == nil {
		t.Fatal("it is taken")
	}
	for _, name := range []string{"PORT", "read_timeout", "write_timeout", "exec_timeout", "max_inflight", "EVENTO_MAX_BODY", "EVENTO_STATE_CACHE", "EVENTO_DRILL", "jwt_auth", "/nowhere/key", "healthcheck_interval"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("nothing is said of %s:\n%v", name, err)
		}
	}
}

func TestAKeyIsAFileOrAFolderWithOne(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	folder := filepath.Join(dir, "folder")
	empty := filepath.Join(dir, "empty")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{file: "0123456789abcdef\n", filepath.Join(folder, "folder"): "fedcba9876543210", empty: ""} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{file: "0123456789abcdef", folder: "fedcba9876543210"} {
		c, err := runtime.ConfigFromEnvironment(environment(map[string]string{"EVENTO_KEY_FILE": path}))
		if err != nil || len(c.Keys) != 1 || string(c.Keys[0]) != want {
			t.Errorf("%s: %d keys, %v", path, len(c.Keys), err)
		}
	}
	if _, err := runtime.ConfigFromEnvironment(environment(map[string]string{"EVENTO_KEY_FILE": empty})); err == nil {
		t.Error("an empty key is taken: the function would be open")
	}
}
