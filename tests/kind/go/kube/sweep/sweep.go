// Package sweep has the programs of a test's cluster sweep their memory less often: its machine has more memory than CPUs.
package sweep

import (
	"os"
	"runtime/debug"
)

// Seldom lets the heap grow to four times what is in use, up to half a gibibyte; from there on it is swept as ever.
// GOGC in the environment decides otherwise.
func Seldom() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(300)
		debug.SetMemoryLimit(512 << 20)
	}
}
