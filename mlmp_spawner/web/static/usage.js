// What is over does not change: the page is not fetched anew whenever somebody books.

for (const event of ["mlmp:reservation", "mlmp:availability"]) {
  document.getElementById("mlmp").addEventListener(event, (change) => change.preventDefault());
}
