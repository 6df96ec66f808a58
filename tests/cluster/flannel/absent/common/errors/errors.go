// Package errors stands where flanneld imports the errors of a cloud's SDK.
package errors

// TencentCloudSDKError is what no call returns here.
type TencentCloudSDKError struct{}

func (*TencentCloudSDKError) Error() string { return "there is no SDK" }
