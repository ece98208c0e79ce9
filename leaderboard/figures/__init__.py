"""Pure transforms from tables to rows and charts."""
