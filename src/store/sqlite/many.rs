//! Statements over several rows, eight at a time.
//!
//! What a statement costs before it touches its first row (a cursor for each index of the table,
//! and closing them all again) is a third of what one row costs. Eight rows share it; more gain
//! little.

/// Rows of one statement, where there are so many.
pub(crate) const EIGHT: usize = 8;

/// Declares a statement over `N` rows of values: `head`, the rows in brackets, `tail`. Prepared
/// once a connection for each `N`.
macro_rules! rows_statement {
    (
        $(#[$doc:meta])*
        $name:ident<$lt:lifetime> of $row:ident $(=> $out:ty)? {
            $head:expr;
            $($field:ident: $rust:ty as $sql:ty;)*
            => $tail:expr
        }
    ) => {
        struct $row<$lt> {
            $($field: $rust,)*
            of: ::std::marker::PhantomData<&$lt ()>,
        }

        $(#[$doc])*
        struct $name<$lt, const N: usize> {
            rows: [$row<$lt>; N],
        }

        impl<const N: usize> ::diesel::query_builder::QueryId for $name<'_, N> {
            type QueryId = $name<'static, N>;
            const HAS_STATIC_QUERY_ID: bool = true;
        }

        impl<const N: usize> ::diesel::query_builder::QueryFragment<Db> for $name<'_, N> {
            fn walk_ast<'b>(
                &'b self,
                mut out: ::diesel::query_builder::AstPass<'_, 'b, Db>,
            ) -> ::diesel::QueryResult<()> {
                out.push_sql($head);
                for (place, row) in self.rows.iter().enumerate() {
                    let mut before = if place == 0 { "(" } else { ", (" };
                    $(
                        out.push_sql(::std::mem::replace(&mut before, ", "));
                        out.push_bind_param::<$sql, _>(&row.$field)?;
                    )*
                    out.push_sql(")");
                }
                out.push_sql($tail);
                Ok(())
            }
        }

        $(
            impl<const N: usize> ::diesel::query_builder::Query for $name<'_, N> {
                type SqlType = $out;
            }
        )?

        impl<C, const N: usize> ::diesel::query_dsl::RunQueryDsl<C> for $name<'_, N> {}
    };
}
pub(crate) use rows_statement;

/// Does `$then` with arrays of the rows: of eight as long as there are so many, then of one.
macro_rules! by_eights {
    ($rows:expr, |$some:ident| $then:expr) => {{
        let mut rows = $rows.into_iter();
        loop {
            let next: ::std::vec::Vec<_> =
                rows.by_ref().take($crate::store::sqlite::many::EIGHT).collect();
            match <[_; $crate::store::sqlite::many::EIGHT]>::try_from(next) {
                Ok($some) => $then,
                Err(rest) => {
                    for row in rest {
                        let $some = [row];
                        $then;
                    }
                    break;
                }
            }
        }
    }};
}
pub(crate) use by_eights;

#[cfg(test)]
mod tests {
    #[test]
    fn every_row_comes_once_in_its_order() {
        for count in [0, 1, 7, 8, 9, 16, 23] {
            let mut seen = Vec::new();
            by_eights!(0..count, |some| seen.extend(some));
            assert_eq!(seen, (0..count).collect::<Vec<_>>());
        }
    }
}
