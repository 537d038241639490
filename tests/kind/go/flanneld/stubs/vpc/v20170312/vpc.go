// Package v20170312 has the names that flannel's backend for this cloud is compiled with. Making a client fails.
package v20170312

import "errors"

var errNotBuiltIn = errors.New("this backend is not built in")

// Client cannot be made.
type Client struct{}

// NewClientWithSecretId always fails.
func NewClientWithSecretId(_, _, _ string) (*Client, error) { return nil, errNotBuiltIn }

// Filter of a request.
type Filter struct {
	Name   *string
	Values []*string
}

// Route of a route table.
type Route struct {
	DestinationCidrBlock *string
	GatewayId            *string
	GatewayType          *string
	RouteType            *string
	RouteId              *uint64
	Enabled              *bool
}

// RouteTable has routes.
type RouteTable struct {
	RouteTableId *string
	RouteSet     []*Route
}

// DescribeRouteTablesRequest asks for route tables.
type DescribeRouteTablesRequest struct{ Filters []*Filter }

// NewDescribeRouteTablesRequest returns an empty request.
func NewDescribeRouteTablesRequest() *DescribeRouteTablesRequest {
	return &DescribeRouteTablesRequest{}
}

// DescribeRouteTablesResponseParams is an answer's content.
type DescribeRouteTablesResponseParams struct{ RouteTableSet []*RouteTable }

// DescribeRouteTablesResponse is an answer.
type DescribeRouteTablesResponse struct {
	Response *DescribeRouteTablesResponseParams
}

// DescribeRouteTables always fails.
func (*Client) DescribeRouteTables(*DescribeRouteTablesRequest) (*DescribeRouteTablesResponse, error) {
	return nil, errNotBuiltIn
}

// RoutesRequest asks for routes to be made or deleted.
type RoutesRequest struct {
	RouteTableId *string
	Routes       []*Route
}

// NewCreateRoutesRequest returns an empty request.
func NewCreateRoutesRequest() *RoutesRequest { return &RoutesRequest{} }

// NewDeleteRoutesRequest returns an empty request.
func NewDeleteRoutesRequest() *RoutesRequest { return &RoutesRequest{} }

// CreateRoutes always fails.
func (*Client) CreateRoutes(*RoutesRequest) (any, error) { return nil, errNotBuiltIn }

// DeleteRoutes always fails.
func (*Client) DeleteRoutes(*RoutesRequest) (any, error) { return nil, errNotBuiltIn }
