// Package v20170312 stands where flanneld imports a cloud's interface to its routes. Every call fails.
package v20170312

import "errors"

var errAbsent = errors.New("flanneld was built without the SDK of this cloud")

// Client calls nobody.
type Client struct{}

// Filter narrows a request.
type Filter struct {
	Name   *string
	Values []*string
}

// Route is an entry of a RouteTable.
type Route struct {
	RouteId                                                 *uint64
	DestinationCidrBlock, GatewayId, GatewayType, RouteType *string
	Enabled                                                 *bool
}

// RouteTable is a table of the cloud's.
type RouteTable struct {
	RouteTableId *string
	RouteSet     []*Route
}

// Tables is what an answer holds.
type Tables struct{ RouteTableSet []*RouteTable }

// Answer is what no call returns.
type Answer struct{ Response *Tables }

// Query asks for tables.
type Query struct{ Filters []*Filter }

// Change names routes.
type Change struct {
	RouteTableId *string
	Routes       []*Route
}

// NewClientWithSecretId fails.
func NewClientWithSecretId(_, _, _ string) (*Client, error) { return nil, errAbsent }

// NewDescribeRouteTablesRequest makes an empty query.
func NewDescribeRouteTablesRequest() *Query { return &Query{} }

// NewCreateRoutesRequest makes an empty change.
func NewCreateRoutesRequest() *Change { return &Change{} }

// NewDeleteRoutesRequest makes an empty change.
func NewDeleteRoutesRequest() *Change { return &Change{} }

// DescribeRouteTables fails.
func (*Client) DescribeRouteTables(*Query) (*Answer, error) { return nil, errAbsent }

// CreateRoutes fails.
func (*Client) CreateRoutes(*Change) (*Answer, error) { return nil, errAbsent }

// DeleteRoutes fails.
func (*Client) DeleteRoutes(*Change) (*Answer, error) { return nil, errAbsent }
