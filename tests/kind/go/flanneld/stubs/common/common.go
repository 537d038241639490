// Package common stands in for the SDK of a cloud whose modules cannot be had: flannel's backend for it is then not
// there, and everything else of flannel is.
package common

// StringPtr returns a pointer to a copy.
func StringPtr(value string) *string { return &value }

// BoolPtr returns a pointer to a copy.
func BoolPtr(value bool) *bool { return &value }

// StringPtrs returns a pointer to each.
func StringPtrs(values []string) []*string {
	pointers := make([]*string, 0, len(values))
	for _, value := range values {
		pointers = append(pointers, StringPtr(value))
	}
	return pointers
}
