// Package errors has the SDK's one error type.
package errors

// TencentCloudSDKError is never made here; flannel asks whether an error is one.
type TencentCloudSDKError struct{}

func (*TencentCloudSDKError) Error() string { return "this backend is not built in" }
