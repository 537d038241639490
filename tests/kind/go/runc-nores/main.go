// Command runc-nores runs runc without CAP_SYS_RESOURCE where this machine does not have it.
//
// A privileged container is asked for with every capability there is. On a machine that was itself started without
// CAP_SYS_RESOURCE runc refuses such a container as a whole. This program takes that one capability out of what is
// asked for (the bundle of `create` and `run`, the process of `exec`) and then becomes runc. Where the machine has
// the capability nothing is taken out.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

const (
	runc           = "/usr/sbin/runc"
	capSysResource = 24 // linux/capability.h
	capabilityName = "CAP_SYS_RESOURCE"
	prCapBSetRead  = 23 // linux/prctl.h: PR_CAPBSET_READ
)

func main() {
	if !held() {
		if path := document(os.Args[1:]); path != "" {
			if err := rewrite(path); err != nil {
				fmt.Fprintln(os.Stderr, "runc-nores:", err)
				os.Exit(1)
			}
		}
	}
	err := syscall.Exec(runc, append([]string{"runc"}, os.Args[1:]...), os.Environ())
	fmt.Fprintln(os.Stderr, "runc-nores:", runc, err)
	os.Exit(1)
}

// held reports whether the capability is in this process's bounding set.
func held() bool {
	value, _, errno := syscall.Syscall(syscall.SYS_PRCTL, prCapBSetRead, capSysResource, 0)
	return errno == 0 && value == 1
}

// document returns the file in which runc's arguments name capabilities, "" where they name none.
func document(arguments []string) string {
	for index, word := range arguments {
		rest := arguments[index+1:]
		switch word {
		case "create", "run", "restore":
			return filepath.Join(option(rest, "--bundle", "-b"), "config.json") // the bundle's default is the directory we are in
		case "exec":
			return option(rest, "--process", "-p")
		}
	}
	return ""
}

// option returns an option's value, given as the next word or behind "=".
func option(words []string, names ...string) string {
	for index, word := range words {
		for _, name := range names {
			if value, found := strings.CutPrefix(word, name+"="); found {
				return value
			}
			if word == name && index+1 < len(words) {
				return words[index+1]
			}
		}
	}
	return ""
}

// rewrite takes the capability out of a container's configuration or of a single process's.
func rewrite(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var whole map[string]any
	if err := json.Unmarshal(text, &whole); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	process := whole
	if inner, found := whole["process"].(map[string]any); found {
		process = inner
	}
	sets, _ := process["capabilities"].(map[string]any)
	for name, set := range sets {
		sets[name] = without(set)
	}
	if text, err = json.Marshal(whole); err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}

func without(set any) []any {
	listed, _ := set.([]any)
	kept := make([]any, 0, len(listed))
	for _, name := range listed {
		if name != capabilityName {
			kept = append(kept, name)
		}
	}
	return kept
}
