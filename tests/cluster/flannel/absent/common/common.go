// Package common stands where flanneld imports the SDK of a cloud, for a backend that nobody runs here: not every module
// proxy has the SDK. It holds what that backend is compiled with, and does nothing.
package common

// StringPtr returns where the value is.
func StringPtr(value string) *string { return &value }

// StringPtrs returns where the values are.
func StringPtrs(values []string) []*string {
	pointers := make([]*string, len(values))
	for index := range values {
		pointers[index] = &values[index]
	}
	return pointers
}

// BoolPtr returns where the value is.
func BoolPtr(value bool) *bool { return &value }
