//! The declarations behind the registry: one table after the other, columns in schema order. Each makes
//! a [`TableDef`], a row of named fields, and the mark by which builders know the table.

mod protocols;
mod system;

pub use protocols::*;
pub use system::*;

use super::TableDef;

const COUNT: usize = PROTOCOLS.len() + SYSTEM.len();

/// The type of a column in rows.
macro_rules! cell {
    (Time) => { i64 };
    (Int) => { i64 };
    (Float) => { f64 };
    (Bool) => { bool };
    (Uint128) => { u128 };
    (Text) => { &'a [u8] };
    (Label) => { &'a [u8] };
}

/// A column's declaration. Labels are texts with few distinct values.
macro_rules! column {
    (Time $name:ident $semantic:ident $desc:literal) => { column!(@ column, Time64Ns, $name $semantic $desc) };
    (Int $name:ident $semantic:ident $desc:literal) => { column!(@ column, Int64, $name $semantic $desc) };
    (Float $name:ident $semantic:ident $desc:literal) => { column!(@ column, Float64, $name $semantic $desc) };
    (Bool $name:ident $semantic:ident $desc:literal) => { column!(@ column, Boolean, $name $semantic $desc) };
    (Uint128 $name:ident $semantic:ident $desc:literal) => { column!(@ column, Uint128, $name $semantic $desc) };
    (Text $name:ident $semantic:ident $desc:literal) => { column!(@ column, String, $name $semantic $desc) };
    (Label $name:ident $semantic:ident $desc:literal) => {
        $crate::tables::label(stringify!($name), $crate::value::SemanticType::$semantic, $desc)
    };
    (@ column, $type:ident, $name:ident $semantic:ident $desc:literal) => {
        $crate::tables::column(
            stringify!($name),
            $crate::value::DataType::$type,
            $crate::value::SemanticType::$semantic,
            $desc,
        )
    };
}

/// Declares a table: with the endpoints' columns in front, with those but for `encrypted`, or without.
macro_rules! declare {
    (
        table $table:ident $name:literal $desc:literal;
        history $history:expr;
        row $row:ident$(<$life:lifetime>)? endpoints $when:literal $columns:tt
    ) => {
        declare!(@ endpoints $table $name $desc $history, $row$(<$life>)?, $when, $columns,
            put [endpoints::ENCRYPTED,]);
    };
    (
        table $table:ident $name:literal $desc:literal;
        history $history:expr;
        row $row:ident$(<$life:lifetime>)? endpoints without encrypted $when:literal $columns:tt
    ) => {
        declare!(@ endpoints $table $name $desc $history, $row$(<$life>)?, $when, $columns,
            put_without_encrypted []);
    };
    (
        @ endpoints $table:ident $name:literal $desc:literal $history:expr,
        $row:ident$(<$life:lifetime>)?, $when:literal,
        { $($column:ident: $kind:ident $semantic:ident $text:literal,)+ },
        $put:ident [$($encrypted:tt)*]
    ) => {
        declare!(@ row $desc $row $(<$life>)? {
            $($column: $kind $text,)+
        });
        declare!(@ table $table $name $desc $history,
            type Row<'a> = (Endpoints<'a>, $row$(<$life>)?);
            [
                endpoints::time($when),
                endpoints::UPID,
                endpoints::REMOTE_ADDR,
                endpoints::REMOTE_PORT,
                endpoints::LOCAL_ADDR,
                endpoints::LOCAL_PORT,
                endpoints::TRACE_ROLE,
                $($encrypted)*
                $(column!($kind $column $semantic $text),)+
            ],
            |row, cells| {
                row.0.$put(cells);
                row.1.put(cells);
            });
    };
    (
        @ row $desc:literal $row:ident $(<$life:lifetime>)? {
            $($column:ident: $kind:ident $text:literal,)+
        }
    ) => {
        #[doc = $desc]
        #[derive(Clone, Copy, Debug)]
        pub struct $row$(<$life>)? {
            $(#[doc = $text] pub $column: cell!($kind),)+
        }

        impl$(<$life>)? $row$(<$life>)? {
            fn put(&self, cells: &mut Cells<'_>) {
                $(cells.put(self.$column);)+
            }
            /// Writes these columns, the last ones of a row, of which the endpoints' are written.
            pub fn write(&self, builder: &mut BatchBuilder) {
                self.put(&mut Cells::last(builder, [$(stringify!($column)),+].len()));
            }
        }
    };
    (
        table $table:ident $name:literal $desc:literal;
        history $history:expr;
        row $row:ident$(<$life:lifetime>)? {
            $($column:ident: $kind:ident $semantic:ident $text:literal,)+
        }
    ) => {
        #[doc = $desc]
        #[derive(Clone, Copy, Debug)]
        pub struct $row$(<$life>)? {
            $(#[doc = $text] pub $column: cell!($kind),)+
        }
        declare!(@ table $table $name $desc $history, type Row<'a> = $row$(<$life>)?;
            [$(column!($kind $column $semantic $text),)+],
            |row, cells| { $(cells.put(row.$column);)+ });
    };
    (
        @ table $table:ident $name:literal $desc:literal $history:expr, $type:item
        [$($columns:tt)+], |$given:ident, $cells:ident| $put:block
    ) => {
        #[doc = concat!("The table `", $name, "`.")]
        #[derive(Clone, Copy, Debug)]
        pub enum $table {}

        impl Table for $table {
            const DEF: TableDef = TableDef {
                name: $name,
                desc: $desc,
                history: $history,
                columns: &[$($columns)+],
            };
            $type
            fn put($given: &Self::Row<'_>, $cells: &mut Cells<'_>) $put
        }
    };
}
use {cell, column, declare};

/// Every table.
pub const TABLES: &[TableDef] = &{
    let mut all = [PROTOCOLS[0]; COUNT];
    let mut idx = 0;
    while idx < COUNT {
        all[idx] =
            if idx < PROTOCOLS.len() { PROTOCOLS[idx] } else { SYSTEM[idx - PROTOCOLS.len()] };
        idx += 1;
    }
    all
};
