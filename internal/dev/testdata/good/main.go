// A function that is healthy, says what it was given, dies when it is told to,
// and starts a process of its own, as a careless one may.
package main

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

func main() {
	child := exec.Command("sleep", "3600")
	if err := child.Start(); err != nil {
		panic(err)
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	go func() {
		<-end
		os.Exit(0)
	}()
	http.HandleFunc("/_/health", func(http.ResponseWriter, *http.Request) {})
	http.HandleFunc("/about", func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(map[string]any{
			"pid": os.Getpid(), "child": child.Process.Pid, "greeting": os.Getenv("greeting"),
			"file": os.Getenv("from_file"), "secret": os.Getenv("EVENTO_TEST_SECRET"),
		})
	})
	http.HandleFunc("/die", func(http.ResponseWriter, *http.Request) {
		os.Stderr.WriteString("told to die\n")
		os.Exit(3)
	})
	http.ListenAndServe(os.Getenv("EVENTO_BIND")+":"+os.Getenv("PORT"), nil)
}
